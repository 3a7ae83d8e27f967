#include "data_pipeline/posts.h"

#include <chrono>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "data_pipeline/tokenizer.h"

namespace tagspace {
namespace {

using Names = std::vector<std::string>;

Names hashtags(std::string_view raw) { return parse_post(raw, true).hashtags; }
std::string text(std::string_view raw) { return parse_post(raw, true).text; }

struct HashtagCase {
  const char* raw;
  Names hashtags;
  const char* text;
};

class Hashtags : public ::testing::TestWithParam<HashtagCase> {};

TEST_P(Hashtags, AreTakenOutOfTheText) {
  const HashtagCase& c = GetParam();
  EXPECT_EQ(hashtags(c.raw), c.hashtags);
  EXPECT_EQ(text(c.raw), c.text);
}

INSTANTIATE_TEST_SUITE_P(
    Scripts, Hashtags,
    ::testing::Values(HashtagCase{"Warm #Bread today", {"bread"}, "warm today"},
                      HashtagCase{"#ÉTÉ à Paris", {"été"}, "à paris"},
                      HashtagCase{"Новости #Москва!", {"москва"}, "новости !"},
                      HashtagCase{"صباح #الخير يا عرب", {"الخير"}, "صباح يا عرب"},
                      HashtagCase{"आज #हिन्दी दिवस", {"हिन्दी"}, "आज दिवस"},
                      HashtagCase{"夏の #花火大会 です", {"花火大会"}, "夏の です"},
                      HashtagCase{"ラーメン ＃ラーメン大好き", {"ラーメン大好き"}, "ラーメン"},
                      HashtagCase{"#ภาษาไทย ง่าย", {"ภาษาไทย"}, "ง่าย"},
                      HashtagCase{"오늘 #한국어_공부 시작", {"한국어_공부"}, "오늘 시작"},
                      HashtagCase{"#ΑΘΗΝΑΣ", {"αθηνας"}, ""}, HashtagCase{"#İstanbul", {"i̇stanbul"}, ""},
                      HashtagCase{"﹟small form", {"small"}, "form"}));

INSTANTIATE_TEST_SUITE_P(
    Boundaries, Hashtags,
    ::testing::Values(HashtagCase{"we are #1", {}, "we are #1"}, HashtagCase{"#2024_05", {}, "#2024_05"},
                      HashtagCase{"#_", {}, "#_"},
                      HashtagCase{"#covid19 #1a #_x #365days", {"covid19", "1a", "_x", "365days"}, ""},
                      HashtagCase{"a#b c_#d 7#e", {}, "a#b c_#d 7#e"},
                      HashtagCase{"don&#39;t &#x27; x/#top", {}, "don&#39;t &#x27; x/#top"},
                      HashtagCase{"##x", {}, "##x"}, HashtagCase{"#＃x", {}, "##x"},
                      HashtagCase{"#tag#tag2", {"tag"}, "#tag2"}, HashtagCase{"# alone #", {}, "# alone #"},
                      HashtagCase{
                          "(#in)[#brackets].#dot,#comma", {"in", "brackets", "dot", "comma"}, "( )[ ]. ,"},
                      HashtagCase{"#rock-n-roll", {"rock"}, "-n-roll"}, HashtagCase{"#it's", {"it"}, "'s"},
                      HashtagCase{"日本#tag", {}, "日本#tag"}, HashtagCase{"é#tag", {}, "é#tag"},
                      HashtagCase{"e\u0301#tag", {}, "é#tag"}, HashtagCase{"😀#happy😀 😀", {"happy"}, "😀 😀 😀"},
                      HashtagCase{"❤\uFE0F#love\uFE0F", {"love"}, "❤"},
                      HashtagCase{"#\uFE0F\u20E3 keycap", {}, "# keycap"},
                      HashtagCase{"#Same #same #SAME #ｓａｍｅ", {"same"}, ""},
                      HashtagCase{"#b #a #b #c #a", {"b", "a", "c"}, ""},
                      HashtagCase{"#cafe\u0301 #caf\u00E9", {"café"}, ""}));

INSTANTIATE_TEST_SUITE_P(Joiners, Hashtags,
                         ::testing::Values(HashtagCase{"#می\u200Cخواهم خوب", {"میخواهم"}, "خوب"},
                                           HashtagCase{"#tag\u200D next", {"tag"}, "next"},
                                           HashtagCase{"#a\u200Bb", {"a"}, "b"},
                                           HashtagCase{"#ta\u00ADg", {"tag"}, ""},
                                           HashtagCase{"#سلام\u200F ok", {"سلام"}, "ok"}));

INSTANTIATE_TEST_SUITE_P(
    UrlsAndMentions, Hashtags,
    ::testing::Values(HashtagCase{"see https://Example.com/a?b=c#Top now", {}, "see <url> now"},
                      HashtagCase{"HTTP://X.ORG/#a #b", {"b"}, "<url>"},
                      HashtagCase{"www.example.com/#x", {}, "<url>"},
                      HashtagCase{"(http://x.co) ok", {}, "( <url> ok"},
                      HashtagCase{"見てhttp://t.co/abc日本", {}, "見て <url> 日本"},
                      HashtagCase{"\"http://x.co\"#q", {"q"}, "\" <url> \""},
                      HashtagCase{"http:// www. awww.x.y xhttp://z", {}, "http:// www. awww.x.y xhttp://z"},
                      HashtagCase{"hello whale http", {}, "hello whale http"},
                      HashtagCase{"@Ann_9: hi @bob!", {}, "<user> : hi <user> !"},
                      HashtagCase{".@ann (@bob) RT@carl", {}, ". <user> ( <user> ) rt@carl"},
                      HashtagCase{"mail me@example.com", {}, "mail me@example.com"},
                      HashtagCase{"@ home @", {}, "@ home @"},
                      HashtagCase{"＠ann @ann#tag", {}, "<user> <user> #tag"},
                      HashtagCase{"@annさん", {}, "<user> さん"}, HashtagCase{"@josé hi", {}, "<user> hi"}));

TEST(CleanText, NormalisesToNfkc) {
  EXPECT_EQ(clean_text("Ｆｕｌｌ　Ｗｉｄｔｈ", true), "full width");
  EXPECT_EQ(clean_text("ﬁne ①② ½ ™ …", true), "fine 12 1⁄2 tm ...");
  EXPECT_EQ(clean_text("e\u0301 \u1100\u1161", true), "é 가");
  EXPECT_EQ(clean_text("ﾊﾟﾝ", true), "パン");
  EXPECT_EQ(clean_text("𝐁𝐨𝐥𝐝 ℡", true), "bold tel");  // capitals that only NFKC lays bare
}

TEST(CleanText, LowersCaseOnlyIfAsked) {
  EXPECT_EQ(clean_text("Ab ÄÖ ΣΑΣ Σ", true), "ab äö σας σ");
  EXPECT_EQ(clean_text("Ab ÄÖ ΣΑΣ", false), "Ab ÄÖ ΣΑΣ");
  const Post post = parse_post("Big #Tag ＃ÄÖ Http://X", false);
  EXPECT_EQ(post.text, "Big <url>");
  EXPECT_EQ(post.hashtags, (Names{"tag", "äö"}));
}

TEST(CleanText, MakesOneSpaceOfWhiteSpaceAndControlCharacters) {
  EXPECT_EQ(clean_text(" \t a \r\n\v b\u00A0\u3000\u2028c  ", true), "a b c");
  EXPECT_EQ(clean_text(std::string("a\0b\x7F\x1Bz", 6), true), "a b z");
  EXPECT_EQ(clean_text(std::string("é\0b\x01z", 6), true), "é b z");
  EXPECT_EQ(clean_text("é\u0085x", true), "é x");
  EXPECT_EQ(clean_text("", true), "");
  EXPECT_EQ(clean_text(" \n ", true), "");
  EXPECT_EQ(clean_text("\u200B\u3000", true), "");
}

TEST(CleanText, DropsWhatCannotBeSeen) {
  EXPECT_EQ(clean_text("👩\u200D👩\u200D👧 ❤\uFE0F ok", true), "👩👩👧 ❤ ok");
  EXPECT_EQ(clean_text("می\u200Cخواهم", true), "می\u200Cخواهم");
  EXPECT_EQ(clean_text("a\u200C b\u200Dc", true), "a b\u200Dc");
  EXPECT_EQ(clean_text("\u202Eabc\u202C \uFEFFd\u2060e", true), "abc de");
  EXPECT_EQ(clean_text("don\u00B4t \u00A8", true), "don t");  // accents on nothing
  EXPECT_EQ(clean_text("1\uFE0F\u20E3", true), "1");
}

TEST(CleanText, BoundsTheMarksOnALetter) {
  std::string zalgo = "e";
  for (int i = 0; i < 100000; ++i) zalgo += i % 2 == 0 ? "\u0316" : "\u0301";
  const auto start = std::chrono::steady_clock::now();
  const std::string clean = clean_text(zalgo, true);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_LE(clean.size(), 2U * 31U);
  EXPECT_EQ(clean.substr(0, 2), "é");
  EXPECT_LT(seconds.count(), 2.0);  // canonical ordering alone would take minutes
}

TEST(CleanText, IsTheSameWhenDoneTwice) {
  for (const char* raw : {"A ＦＵＬＬ @Ann https://x.y/z é… ™", "👩\u200D👩 ﷺ ½ don’t", "हिन्दी 日本語 @user"}) {
    const std::string once = clean_text(raw, true);
    EXPECT_EQ(clean_text(once, true), once);
  }
}

TEST(NormalizeHashtag, TakesNamesAsPeopleListThem) {
  EXPECT_EQ(normalize_hashtag("#Tag"), "tag");
  EXPECT_EQ(normalize_hashtag("tag"), "tag");
  EXPECT_EQ(normalize_hashtag("＃ＴＡＧ"), "tag");
  EXPECT_EQ(normalize_hashtag(" Two  Words "), "two_words");
  EXPECT_EQ(normalize_hashtag("food-safety"), "food_safety");
  EXPECT_EQ(normalize_hashtag("c++"), "c");
  EXPECT_EQ(normalize_hashtag("_x_"), "_x_");
  EXPECT_EQ(normalize_hashtag("हिन्दी"), "हिन्दी");
  EXPECT_EQ(normalize_hashtag("a\u200Db"), "ab");
  EXPECT_EQ(normalize_hashtag("123"), "");
  EXPECT_EQ(normalize_hashtag("#"), "");
  EXPECT_EQ(normalize_hashtag(""), "");
  EXPECT_EQ(normalize_hashtag("\u0301"), "");
  EXPECT_EQ(normalize_hashtag("😀"), "");
}

// The examples of the Unicode Standard, section 3.9, table 3-8 and following: one U+FFFD for a maximal
// subpart.
TEST(RepairUtf8, ReplacesMaximalSubparts) {
  const std::string r = "\uFFFD";
  struct Case {
    std::string bytes;
    std::string repaired;
    std::uint64_t count;
  };
  const std::vector<Case> cases = {
      {"plain", "plain", 0},
      {"gültig 日本 😀", "gültig 日本 😀", 0},
      {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", r + r + r + r + r + r + r + r + "A", 8},
      {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", r + r + r + r + r + r + r + r + "A", 8},
      {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", r + r + r + r + r + "A" + r + r + "B", 7},
      {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", r + r + r + r + "A", 4},
      {"cut \xE6\x97", "cut " + r, 1},
      {"cut \xF0\x9F\x98", "cut " + r, 1},
      {"\x80", r, 1},
      {"a\xC3(z", "a" + r + "(z", 1},
      {"\xF5\x80\xF8\xFE", r + r + r + r, 4},
      {"ä\xFFö", "ä" + r + "ö", 1},
  };
  for (const Case& c : cases) {
    std::string text = c.bytes;
    EXPECT_EQ(repair_utf8(text), c.count) << c.repaired;
    EXPECT_EQ(text, c.repaired);
    EXPECT_EQ(repair_utf8(text), 0U);
  }
}

TEST(ParsePost, StandsEveryByteString) {
  std::uint32_t state = 20240501;
  for (int round = 0; round < 3000; ++round) {
    std::string bytes;
    for (int i = 0; i < 60; ++i) {
      state = state * 1664525U + 1013904223U;
      static constexpr std::string_view kPieces[] = {
          "#", "@", "http://", "\xE2\x80\x8D", "\xCC\x81", "a", " ", "＃", "_", "日"};
      if (state >> 31U != 0) {
        bytes += kPieces[(state >> 8U) % std::size(kPieces)];
      } else {
        bytes += static_cast<char>(state >> 16U);
      }
    }
    repair_utf8(bytes);
    const Post post = parse_post(bytes, true);
    std::string again = post.text;
    EXPECT_EQ(repair_utf8(again), 0U);
    EXPECT_EQ(post.text.find("  "), std::string::npos);
    for (const std::string& hashtag : post.hashtags) EXPECT_EQ(normalize_hashtag(hashtag), hashtag);
  }
}

TEST(ParsePost, TakesTimeLinearInTheLength) {
  const auto repeat = [](std::string_view part, std::size_t bytes) {
    std::string result;
    while (result.size() < bytes) result += part;
    return result;
  };
  constexpr std::size_t kBytes = 4000000;
  std::string many;
  for (int i = 0; many.size() < kBytes; ++i) many += "#t" + std::to_string(i) + " ";
  const auto start = std::chrono::steady_clock::now();
  for (const std::string_view part :
       {"#", "#1", "@", "www.", "http://", "a", "é", "\u200D", "<", "#\u0301", "__label__", "'a"}) {
    const Post post = parse_post(repeat(part, kBytes), true);
    (void)split_words(post.text);
  }
  EXPECT_GT(parse_post(many, true).hashtags.size(), 100000U);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_LT(seconds.count(), 60.0);  // some two seconds; a quadratic step takes hours
}

std::vector<std::string> words(std::string_view clean) {
  std::vector<std::string> result;
  for (const std::string_view word : split_words(clean)) result.emplace_back(word);
  return result;
}

TEST(SplitWords, KeepsWordsOfAllScriptsWhole) {
  EXPECT_EQ(words("hello, big_world 42nd"), (Names{"hello", ",", "big_world", "42nd"}));
  EXPECT_EQ(words("हिन्दी भाषा"), (Names{"हिन्दी", "भाषा"}));
  EXPECT_EQ(words("привет мир"), (Names{"привет", "мир"}));
  EXPECT_EQ(words("می\u200Cخواهم"), (Names{"می\u200Cخواهم"}));
  EXPECT_EQ(words("한국어 공부"), (Names{"한국어", "공부"}));
}

TEST(SplitWords, KeepsInnerApostrophes) {
  EXPECT_EQ(words("don't rock'n'roll l’été"), (Names{"don't", "rock'n'roll", "l’été"}));
  EXPECT_EQ(words("'quoted' boys' ''"), (Names{"'", "quoted", "'", "boys", "'", "'"}));
}

TEST(SplitWords, TakesIdeographsAndKanaOneByOne) {
  EXPECT_EQ(words("日本語abcです"), (Names{"日", "本", "語", "abc", "で", "す"}));
  EXPECT_EQ(words("か\u3099"), (Names{"か\u3099"}));
}

TEST(SplitWords, CountsARunOfOneSymbolOnce) {
  EXPECT_EQ(words("what?!?!! ... no"), (Names{"what", "?", "!", "?", "!", ".", "no"}));
  EXPECT_EQ(words("😂😂😂😭 😂"), (Names{"😂", "😭", "😂"}));
}

TEST(SplitWords, KeepsPlaceholders) {
  EXPECT_EQ(words("<user> : <url> <urn> <"), (Names{"<user>", ":", "<url>", "<", "urn", ">", "<"}));
  EXPECT_TRUE(words("").empty());
  EXPECT_TRUE(words("   ").empty());
}

}  // namespace
}  // namespace tagspace

"""Mistakes planted in the CUDA kernels: what the emulator, the tests and the sanitizers must find.

    planted_bugs.py FOLDER    writes copies of the kernels, with all the mistakes in them, below FOLDER

A copy has each mistake beside the right code, and makes the one whose number the variable planted_bug holds
(planted_bug.cc; 0: none). So the kernels are compiled once for each kind of build, and not once for each mistake.
"""

import pathlib
import sys
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FILES = ("encoder.cu", "memory.cuh", "row_sort.cu", "row_update.cu", "warp.cu")
FOLDER = "model/kernels/cuda"


class Bug(NamedTuple):
    name: str
    build: str    # the one that finds it: plain, address (with undefined behaviour) or thread
    finding: str  # a regular expression for what that build says
    tests: str    # a filter for the tests that it is found by
    file: str
    context: str  # a part of the file that there is one of, and in it
    right: str    # one of this: a statement, or else an expression
    wrong: str


# What the emulator says, where the order of events decides which of these comes first.
MEETING = "lanes meet in|deadlock|which does not take part"
OVERFLOW = "AddressSanitizer: heap-buffer-overflow"
RACE = "ThreadSanitizer: data race"
SEARCH = "*EqualsTheReferenceTryForTry/Dim20"
SEARCH_UNALIGNED = "*EqualsTheReferenceTryForTry/Dim3"
SEQUENTIAL = "*.HogwildOnePairAfterTheOther*"
HOT_ROW = "*.HogwildCutsAHotRow*"
ANY_ORDER = "*.HogwildInAnyOrder*"
SORT = "RowSort.*"
ROWS = "RowUpdateKernel.EqualsTheReference"
LONG_ROWS = "RowUpdateKernel.RowsOfManyContributions*"
CONVOLUTION = "*.TheConvolutionForwardsAndBackwards"
WINDOWS = "*.WindowsOfLongPosts*"
TOTALS = "*.TotalsOfManyPairs"

BUGS = (
    # --- The emulator: lanes and threads that do not meet.
    Bug("a_mask_of_the_group_and_those_after_it", "plain", "different masks", SEARCH, "warp.cu",
        "__ballot_sync(mask, is_try)", "mask", "0xFFFFFFFFU << first_lane"),
    Bug("the_mask_of_the_first_group", "plain", "a lane is not in the mask", SEARCH, "warp.cu",
        "(0xFFFFFFFFU >> (32 - lanes)) << first_lane", "first_lane", "0U"),
    Bug("only_active_quads_score", "plain", MEETING, SEARCH, "warp.cu",
        "const RowScore s = score(table + std::size_t{candidate} * dim, active, p_inverse);",
        "score(table + std::size_t{candidate} * dim, active, p_inverse)",
        "active ? score(table + std::size_t{candidate} * dim, active, p_inverse) : RowScore{0, 1}"),
    Bug("inactive_lanes_skip_the_shuffles", "plain", MEETING, ROWS, "row_update.cu",
        "const std::uint32_t k_source = __shfl_sync(kFull, source, static_cast<int>(k));",
        "__shfl_sync(kFull, source, static_cast<int>(k))",
        "active ? __shfl_sync(kFull, source, static_cast<int>(k)) : 0"),
    Bug("threads_without_pairs_return", "plain", "which does not take part", TOTALS, "encoder.cu",
        "mine.loss += static_cast<double>(loss[i]);\n    mine.violators += violator[i] == kNoRow ? 0 : 1;\n"
        "    mine.tries += tries[i];\n  }\n"
        "  mine = {sum_of_warp(mine.loss), sum_of_warp(mine.violators), sum_of_warp(mine.tries)};",
        "mine = {sum_of_warp(mine.loss), sum_of_warp(mine.violators), sum_of_warp(mine.tries)};",
        "if (threadIdx.x >= pairs) return;\n"
        "  mine = {sum_of_warp(mine.loss), sum_of_warp(mine.violators), sum_of_warp(mine.tries)};"),
    Bug("a_barrier_for_some_threads", "plain", "threads wait at different barriers", TOTALS, "encoder.cu",
        "if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = mine;",
        "of_warps[threadIdx.x / 32] = mine;", "of_warps[threadIdx.x / 32] = mine; __syncthreads();"),
    # --- The tests: results that differ from the reference's.
    Bug("the_last_violator", "plain", r"actual\.tries", SEARCH, "warp.cu",
        "const int winner = __ffs(violating) - 1;", "__ffs(violating) - 1", "31 - std::countl_zero(violating)"),
    Bug("own_hashtags_are_tries", "plain", r"actual\.violator", SEARCH, "warp.cu",
        "draw < last_draw && !contains(own_begin, own_end, row)", "!contains(own_begin, own_end, row)", "true"),
    Bug("quads_without_a_try_are_counted", "plain", r"actual\.tries", SEARCH, "warp.cu",
        "tries += in_flight;", "in_flight", "all_tries"),
    Bug("the_sign_of_a_gradient", "plain", r"actual\.negative", SEARCH, "warp.cu",
        "to_negative = __fmul_rn(__fmul_rn(w, p_inverse), n.inverse);", "__fmul_rn(w, p_inverse)",
        "__fmul_rn(-w, p_inverse)"),
    Bug("a_gradient_without_its_weight", "plain", r"actual\.positive", SEARCH, "warp.cu",
        "const float w = __fmul_rn(__fmul_rn(weight, of_pair.slope), search.gradient_scale);",
        "__fmul_rn(__fmul_rn(weight, of_pair.slope), search.gradient_scale)",
        "search.gradient_scale"),
    Bug("an_offset_of_32_bits", "plain", r"out\.loss", "*.RowOffsetsHave64Bits", "warp.cu",
        "T* const positive = table + std::size_t{positive_row} * dim;", "std::size_t{positive_row} * dim",
        "positive_row * dim"),
    Bug("a_norm_before_all_have_written", "plain", "differing", "*.HogwildCutsRowsThatAreTooLong",
        "warp.cu",
        "__syncwarp(mask);\n        if (search.optimizer.max_norm > 0) {", "__syncwarp(mask);", ""),
    Bug("each_group_cuts_a_row_again", "plain", "norm / longest", HOT_ROW, "warp.cu",
        "atomicCAS(reinterpret_cast<unsigned*>(row + i), __float_as_uint(copy[i]),\n"
        "              __float_as_uint(__fmul_rn(copy[i], factor)));",
        "atomicCAS(reinterpret_cast<unsigned*>(row + i), __float_as_uint(copy[i]),\n"
        "              __float_as_uint(__fmul_rn(copy[i], factor)));",
        "row[i] = __fmul_rn(row[i], factor);"),
    Bug("each_group_cuts_a_pair_again", "plain", "norm / longest", HOT_ROW, "warp.cu",
        "atomicCAS(reinterpret_cast<unsigned*>(row + i), old_bits(i) | old_bits(i + 1) << 16,\n"
        "              cut_bits(i) | cut_bits(i + 1) << 16);",
        "atomicCAS(reinterpret_cast<unsigned*>(row + i), old_bits(i) | old_bits(i + 1) << 16,\n"
        "              cut_bits(i) | cut_bits(i + 1) << 16);",
        "for (unsigned j = i; j < i + 2; ++j) row[j] = round_to_nearest(__fmul_rn(to_float(row[j]), factor));"),
    Bug("pairs_of_one_half_are_cut", "plain", "differing", "*.HogwildCutsRowsThatAreTooLong", "warp.cu",
        "for (unsigned i = 2 * lane; i < dim; i += 2 * lanes)", "i < dim", "i < dim / 2"),
    Bug("a_cut_rounded_as_the_step_was", "plain", "differing", "*.HogwildCutsRowsThatAreTooLong", "warp.cu",
        "rounding_words(rounding, item, dim + i)", "dim + i", "i / 4"),
    Bug("a_norm_of_several_moments", "plain", "norm / longest", HOT_ROW, "warp.cu",
        "if (__any_sync(mask, changed) != 0) continue;", "__any_sync(mask, changed) != 0", "false"),
    Bug("hogwild_adagrad_without_the_new_square", "plain", "expected.table", SEQUENTIAL, "warp.cu",
        "const float sum = __fadd_rn(before[j], __fmul_rn(gradient[j], gradient[j]));",
        "__fadd_rn(before[j], __fmul_rn(gradient[j], gradient[j]))", "before[j]"),
    Bug("a_sort_over_too_few_bits", "plain", "expected_(rows|order)", SORT, "row_sort.cu",
        "0, bits_of(table_rows), stream", "bits_of(table_rows)", "bits_of(table_rows - 1)"),
    Bug("numbers_counted_in_one_block", "plain", "expected_order", SORT, "row_sort.cu",
        "const std::uint32_t i = blockIdx.x * kThreads + threadIdx.x;", "blockIdx.x * kThreads + threadIdx.x",
        "threadIdx.x"),
    Bug("the_order_of_the_batch_is_ignored", "plain", "expected_sums", ROWS, "row_update.cu",
        "update.order[at + lane]", "update.order[at + lane]", "at + lane"),
    Bug("a_long_row_that_begins_where_it_is_found", "plain", "expected_sums", LONG_ROWS, "row_update.cu",
        "const std::uint32_t begin = probe - static_cast<std::uint32_t>(__syncthreads_count(before ? 1 : 0));",
        "static_cast<std::uint32_t>(__syncthreads_count(before ? 1 : 0))",
        "0 * static_cast<std::uint32_t>(__syncthreads_count(before ? 1 : 0))"),
    Bug("a_long_row_updated_twice", "plain", "expected_sums", LONG_ROWS, "row_update.cu",
        "if (is_long(update, row_number, begin)) return;", "is_long(update, row_number, begin)", "false"),
    Bug("the_last_of_a_batch_left_out", "plain", "expected", LONG_ROWS, "row_update.cu",
        "sum = j < count ? added : sum;", "j < count", "j + 1 < count"),
    Bug("no_barrier_before_the_next_contributions", "plain", "expected_sums", LONG_ROWS, "row_update.cu",
        "__syncthreads();  // the next ones", "__syncthreads();", ""),
    Bug("adagrad_without_the_new_square", "plain", "actual", ROWS, "row_update.cu",
        "adagrad_move(update.optimizer.learning_rate, gradient.at[j], sum.at[j])", "sum.at[j]", "(*sums).at[j]"),
    Bug("rounding_cuts_off", "plain", "differing", "*.HalfTablesAreRoundedAtRandom", "row_update.cu",
        "target = round_at_random(value, random);", "round_at_random(value, random)", "round_at_random(value, 0)"),
    Bug("the_last_of_equal_maxima", "plain", "place", "*.TheFirstOfEqualMaximaCounts", "encoder.cu",
        "value[j] > best)", "value[j] > best", "value[j] >= best"),
    Bug("dropout_numbers_posts_in_the_piece", "plain", "features [0-9]+:", CONVOLUTION, "encoder.cu",
        "dropped(dropout, first_post + post, f, tanhf(first_tanh))", "first_post + post", "post"),
    Bug("a_share_of_the_post_is_left_out", "plain", "windows == expected", WINDOWS, "encoder.cu",
        "first < elements;\n       first += kWords * kStride", "kWords * kStride", "(kWords + 1) * kStride"),
    Bug("folded_the_wrong_way", "plain", "token_gradient [0-9]+:", CONVOLUTION, "encoder.cu",
        "const std::uint32_t window = last - k;", "last - k", "last - (begin_k + end_k - 1 - k)"),
    # --- The address sanitizer: memory that is not there.
    Bug("a_post_read_beyond_its_end", "address", OVERFLOW, SEARCH_UNALIGNED, "warp.cu",
        "vector[i] = i < dim ? __ldg(p + i) : 0.0F;", "i < dim", "true"),
    Bug("a_row_read_beyond_its_end", "address", OVERFLOW, SEARCH_UNALIGNED, "memory.cuh",
        "i + 3 < dim ? read_element<kLive>(vector + i + 3)", "i + 3 < dim", "i + 3 <= dim"),
    Bug("a_gradient_written_beyond_its_end", "address", OVERFLOW, SEARCH_UNALIGNED, "warp.cu",
        "j < i + kQuad && (kAligned || j < dim)", "(kAligned || j < dim)", "true"),
    Bug("shared_memory_without_padding", "address", OVERFLOW, SEARCH_UNALIGNED, "warp.cu",
        "const std::size_t shared_bytes = groups * padded(static_cast<unsigned>(search.batch.dim)) * sizeof(float);",
        "padded(static_cast<unsigned>(search.batch.dim))", "search.batch.dim"),
    Bug("a_sort_that_takes_the_numbers_memory_too", "address", OVERFLOW, SORT, "row_sort.cu",
        "scratch == nullptr ? 0 : scratch_bytes - numbers_bytes;", "scratch_bytes - numbers_bytes", "scratch_bytes"),
    Bug("the_weight_of_one_try_more", "address", OVERFLOW, "*EqualsTheReferenceTryForTry/Dim1", "warp.cu",
        "const float weight = config.weight_of_tries[tries - 1];", "config.weight_of_tries[tries - 1]",
        "config.weight_of_tries[tries]"),
    Bug("contributions_beyond_the_last", "address", OVERFLOW, ROWS, "row_update.cu",
        "at + lane < update.contributions && update.rows[at + lane] == row_number",
        "at + lane < update.contributions", "true"),
    Bug("windows_beyond_the_last", "address", OVERFLOW, CONVOLUTION, "encoder.cu",
        "if (last - k < length) target[at] = element;", "last - k < length", "last - k <= length"),
    Bug("filters_beyond_the_last", "address", OVERFLOW, CONVOLUTION, "encoder.cu",
        "if (f >= shape.filters) return;\n  const std::uint32_t post = blockIdx.x;\n"
        "  const std::uint32_t begin = tokens.offsets[post];\n"
        "  const std::uint32_t length = tokens.offsets[post + 1] - begin;\n"
        "  const float* const column", "if (f >= shape.filters) return;", ""),
    Bug("shared_memory_for_one_warp", "address", OVERFLOW, TOTALS, "encoder.cu",
        "kTotalsThreads / 32 * sizeof(Totals)", "kTotalsThreads / 32", "1U"),
    # --- The undefined-behaviour sanitizer.
    Bug("wide_loads_of_every_table", "address", "misaligned address", SEARCH_UNALIGNED, "warp.cu",
        "return search.batch.dim % kQuad == 0", "search.batch.dim % kQuad == 0", "true"),
    Bug("wide_loads_of_every_row", "address", "misaligned address", ROWS, "row_update.cu",
        "return update.dim % 4 == 0", "update.dim % 4 == 0", "update.dim % 3 == 0"),
    Bug("a_mask_shifted_by_32", "address", "shift exponent 32 is too large", SEARCH, "warp.cu",
        "const unsigned mask = (0xFFFFFFFFU >> (32 - lanes))", "(0xFFFFFFFFU >> (32 - lanes))", "((1U << lanes) - 1)"),
    # --- The thread sanitizer: nothing but a barrier orders what threads do.
    Bug("no_barrier_after_the_post_is_shared", "thread", RACE, SEARCH, "warp.cu",
        "vector[i] = i < dim ? __ldg(p + i) : 0.0F;\n    __syncwarp(mask);", "__syncwarp(mask);", ""),
    Bug("no_barrier_after_a_row_is_copied", "thread", RACE, HOT_ROW, "warp.cu",
        "__syncwarp(mask);  // half of a pair", "__syncwarp(mask);", ""),
    Bug("no_barrier_before_the_copy_is_overwritten", "thread", RACE, HOT_ROW, "warp.cu",
        "__syncwarp(mask);  // the copy", "__syncwarp(mask);", ""),
    Bug("no_barrier_before_the_total", "thread", RACE, TOTALS, "encoder.cu",
        "__syncthreads();", "__syncthreads();", ""),
    Bug("a_live_table_read_as_if_it_stood_still", "thread", RACE, ANY_ORDER, "memory.cuh",
        "return load_relaxed(source);", "load_relaxed(source)", "__ldg(source)"),
    Bug("an_addition_that_is_not_atomic", "thread", RACE, ANY_ORDER, "warp.cu",
        "atomicAdd(row + i + j, -moves[j]);", "atomicAdd(row + i + j, -moves[j]);", "row[i + j] -= moves[j];"),
    Bug("no_barrier_before_the_blocks_total", "thread", RACE, LONG_ROWS, "row_update.cu",
        "= value;\n    __syncthreads();", "__syncthreads();", ""),
    Bug("two_owners_of_a_row", "thread", RACE, ROWS, "row_update.cu",
        "(begin > 0 && update.rows[begin - 1] == row_number)", "begin > 0", "false"),
    Bug("a_row_is_cut_by_other_lanes", "thread", RACE, ROWS, "row_update.cu",
        "for (unsigned i = kWidth * lane; i < dim; i += kChunk)", "kWidth * lane", "kWidth * (31 - lane)"),
)


NUMBERED = tuple(enumerate(BUGS, 1))


def only_place(text, part, of):
    """Where `part` is in `text`, of which there must be one: the list above is about the kernels as they are."""
    if text.count(part) != 1:
        raise ValueError(f"{of}: {text.count(part)} places with this text, not 1:\n{part}")
    return text.index(part)


def plant(source, bugs):
    """`source` with all of `bugs` in it, which are numbered."""
    edits = []
    for number, bug in bugs:
        of = f"planted bug {bug.name}, {bug.file}"
        begin = only_place(source, bug.context, of) + only_place(bug.context, bug.right, of)
        chosen = f"planted_bug == {number}"
        if bug.right.endswith(";"):
            both = f"{{ if ({chosen}) {{ {bug.wrong} }} else {{ {bug.right} }} }}"
        else:
            both = f"({chosen} ? ({bug.wrong}) : ({bug.right}))"
        edits.append((begin, begin + len(bug.right), both, of))
    edits.sort()
    for (_, end, _, one), (begin, _, _, other) in zip(edits, edits[1:]):
        if begin < end:
            raise ValueError(f"{one} and {other} change the same text")
    for begin, end, both, _ in reversed(edits):
        source = source[:begin] + both + source[end:]
    return "extern int planted_bug;\n" + source


def main():
    folder = pathlib.Path(sys.argv[1]) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        source = (ROOT / FOLDER / file).read_text(encoding="utf-8")
        planted = plant(source, [(number, bug) for number, bug in NUMBERED if bug.file == file])
        (folder / file).write_text(planted, encoding="utf-8")


if __name__ == "__main__":
    main()

// How kernels on the CPU share their work out to threads; private to this folder.
//
// A task's result depends on its number alone, never on the number of threads.
#pragma once

#include <algorithm>
#include <cstddef>

#include "model/kernels/cpu_context.h"

namespace tagspace::kernels {

inline std::size_t tasks_of(std::size_t count, std::size_t per_task) {
  return (count + per_task - 1) / per_task;
}

// Runs body(begin, end) over [0, count) in pieces of per_task.
template <typename Body>
void for_ranges(CpuContext& context, std::size_t count, std::size_t per_task, const Body& body) {
  context.pool.run(tasks_of(count, per_task), [&](std::size_t task, std::size_t) {
    body(task * per_task, std::min(count, (task + 1) * per_task));
  });
}

// Makes room for `count` values. What there was goes first, so that old and new are never held together.
template <typename Vector>
void make_room(Vector& values, std::size_t count) {
  if (values.size() >= count) return;
  values.clear();
  values.shrink_to_fit();
  values.resize(count);
}

// At least `floats` of memory that the thread may write what it likes to, until its task ends.
inline float* scratch_of(CpuContext& context, std::size_t thread, std::size_t floats) {
  make_room(context.scratch[thread], floats);
  return context.scratch[thread].data();
}

// The same for what all tasks of a kernel read; to be asked for outside them, and once.
inline float* shared_of(CpuContext& context, std::size_t floats) {
  make_room(context.shared, floats);
  return context.shared.data();
}

}  // namespace tagspace::kernels

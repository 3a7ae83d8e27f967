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

// At least `floats` of memory that the thread may write what it likes to, until its task ends.
inline float* scratch_of(CpuContext& context, std::size_t thread, std::size_t floats) {
  return room_for(context.scratch[thread], floats);
}

// The same for what all tasks of a kernel read; to be asked for outside them, and once.
inline float* shared_of(CpuContext& context, std::size_t floats) { return room_for(context.shared, floats); }

}  // namespace tagspace::kernels

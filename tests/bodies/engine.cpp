// The bodies below runtime/, io/, unpack/, compiled once.
#include <overmount/runtime/impl/job.ipp>
#include <overmount/runtime/impl/run_group.ipp>
#include <overmount/runtime/impl/semaphore.ipp>
#include <overmount/runtime/impl/step.ipp>
#include <overmount/runtime/impl/task_group.ipp>
#include <overmount/runtime/impl/thread_attributes.ipp>
#include <overmount/runtime/impl/worker_pool.ipp>
#include <overmount/io/impl/asset_stream.ipp>
#include <overmount/io/impl/byte_sink.ipp>
#include <overmount/io/impl/resuming_stream.ipp>
#include <overmount/unpack/impl/read_steps.ipp>

#ifndef OVERMOUNT_EXAMPLES_PROGRESS_LINE_HPP
#define OVERMOUNT_EXAMPLES_PROGRESS_LINE_HPP

#include "om.hpp"

#include <iostream>
#include <map>
#include <memory>
#include <mutex>

// The progress of an import, as one line on a terminal.
class progress_line
{
public:
    void operator()(const om::layer_progress& at)
    {
        const std::lock_guard guard(mutex_);
        auto& layer = layers_[at.layer()];
        read_ += at.read() - layer.first;
        total_ += at.size().value_or(at.read()) - layer.second;
        layer = {at.read(), at.size().value_or(at.read())};
        std::cerr << "\r\033[K" << layers_.size() << (layers_.size() == 1 ? " layer, " : " layers, ") << read_ / 1000000
                  << " of " << total_ / 1000000 << " MB" << std::flush;
        shown_ = true;
    }
    ~progress_line()
    {
        if (shown_)
            std::cerr << "\r\033[K" << std::flush;
    }

private:
    std::mutex mutex_;
    std::map<std::string, std::pair<std::uint64_t, std::uint64_t>> layers_;
    std::uint64_t read_ = 0, total_ = 0;
    bool shown_ = false;
};

// The options of an import that the command line gives. \param line shows the progress on a terminal; reset it before printing
inline om::import_options import_options_of(const settings& set, const arguments& given, std::shared_ptr<progress_line> line)
{
    om::import_options out;
    for (const std::string& tag : given.tags)
        out.tag(tag);
    out.keep_blobs(given.keep_blobs);
    if (!given.arch.empty())
        out.wanted(om::platform::parse(given.arch));
    if (!set.quiet && ::isatty(STDERR_FILENO) == 1)
        out.progress([line](const om::layer_progress& at) { (*line)(at); });
    return out;
}

#endif

#ifndef OVERMOUNT_EXAMPLES_PROGRESS_HPP
#define OVERMOUNT_EXAMPLES_PROGRESS_HPP

#include "om.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

// What a command has read of layers. On a terminal it shows a line for each layer that is under way, and one for all.
class progress
{
public:
    using clock = std::chrono::steady_clock;
    struct layer
    {
        [[nodiscard]] bool is_done() const noexcept { return size && read >= *size; }
        // Fetched bytes in a second.
        [[nodiscard]] double rate() const noexcept
        {
            const std::chrono::duration<double> time = latest - begun;
            return static_cast<double>(read) / std::max(time.count(), 0.001);
        }
        std::uint64_t read = 0, unpacked = 0;
        std::optional<std::uint64_t> size;
        clock::time_point begun = clock::now(), latest;
    };

    progress(bool shows, bool reports) : shows_(shows), reports_(reports) {}
    progress(const progress&) = delete;
    progress& operator=(const progress&) = delete;
    ~progress() { clear(); }

    [[nodiscard]] bool is_wanted() const noexcept { return shows_ || reports_; }
    void operator()(const om::layer_progress& at)
    {
        const std::lock_guard guard(mutex_);
        layer& one = layers_[at.layer()];
        one.read = at.read();
        one.unpacked = at.unpacked();
        one.size = at.size();
        one.latest = clock::now();
        if (shows_ && one.latest - drawn_ > std::chrono::milliseconds(100))
            draw(one.latest);
    }
    [[nodiscard]] std::map<std::string, layer> layers() const
    {
        const std::lock_guard guard(mutex_);
        return layers_;
    }
    void clear()
    {
        const std::lock_guard guard(mutex_);
        take_away();
    }
    // Prints something else, where the lines were.
    void print(std::ostream& to, const std::string& text)
    {
        const std::lock_guard guard(mutex_);
        take_away();
        to << text << std::flush;
    }

private:
    void take_away()
    {
        if (lines_ != 0)
            std::cerr << up() << std::flush;
        lines_ = 0;
    }
    [[nodiscard]] std::string up() const { return "\r\033[" + std::to_string(lines_) + "A\033[J"; }

    void draw(clock::time_point now)
    {
        winsize screen{};
        if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &screen) != 0 || screen.ws_row < 4)
            screen.ws_row = 24;
        const std::size_t width = screen.ws_col < 20 ? 80 : screen.ws_col; // a line that wraps would be two
        std::string out = lines_ == 0 ? std::string() : up();
        std::uint64_t read = 0, total = 0;
        std::size_t done = 0;
        lines_ = 1;
        for (const auto& [name, one] : layers_) {
            read += one.read;
            total += one.size.value_or(one.read);
            done += one.is_done() ? 1u : 0u;
            if (one.is_done() || lines_ + 2 > screen.ws_row)
                continue;
            char line[160];
            std::snprintf(line, sizeof line, "%.19s  %10s of %10s  %10s unpacked  %9s/s", name.c_str(), readable(one.read).c_str(),
                          one.size ? readable(*one.size).c_str() : "?", readable(one.unpacked).c_str(),
                          readable(static_cast<std::uint64_t>(one.rate())).c_str());
            out += std::string(line).substr(0, width - 1) + '\n';
            ++lines_;
        }
        out += std::to_string(done) + " of " + std::to_string(layers_.size()) + " layers, " + readable(read) + " of " + readable(total) + '\n';
        std::cerr << out << std::flush;
        drawn_ = now;
    }

    const bool shows_, reports_;
    mutable std::mutex mutex_;
    std::map<std::string, layer> layers_;
    std::size_t lines_ = 0;
    clock::time_point drawn_;
};

// The progress of a command: shown on a terminal, and reported with --json.
inline std::shared_ptr<progress> progress_of(const settings& set)
{
    return std::make_shared<progress>(!set.quiet && ::isatty(STDERR_FILENO) == 1, set.json);
}

// The options of an import that the command line gives. \param shown is told of all that is read
inline om::import_options import_options_of(const arguments& given, std::shared_ptr<progress> shown)
{
    om::import_options out;
    for (const std::string& tag : given.tags)
        out.tag(tag);
    out.keep_blobs(given.keep_blobs);
    if (!given.arch.empty())
        out.wanted(om::platform::parse(given.arch));
    if (shown->is_wanted())
        out.progress([shown](const om::layer_progress& at) { (*shown)(at); });
    return out;
}

#endif

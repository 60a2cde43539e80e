// An importer of one's own: an OCI layout that a server gives away by TCP. `OFFSET PATH\n` gives the bytes of a file from there
// on, to its end. Documents are read while images are found; layers when the repository lacks them, side by side.
#pragma once

#include <overmount/overmount.hpp>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>

class socket_importer
{
public:
    using endpoint = boost::asio::ip::tcp::endpoint;
    template <class Value>
    using awaitable = boost::asio::awaitable<Value>;

    explicit socket_importer(endpoint server) : server_(std::move(server)) {}

    awaitable<std::vector<overmount::found_image>> discover(overmount::import_context context) const
    {
        return find(server_, context.bounds());
    }

private:
    static awaitable<std::vector<overmount::found_image>> find(endpoint server, overmount::limits bounds)
    {
        const auto index = overmount::index::parse(co_await read_text(server, "index.json", bounds), bounds);
        std::vector<overmount::found_image> out;
        for (const auto& entry : index.entries()) {
            const auto manifest = overmount::manifest::parse(co_await read_document(server, entry, bounds), bounds);
            auto config = overmount::image_config::parse(co_await read_document(server, manifest.config(), bounds), bounds);
            overmount::found_image image{std::move(config), {}, manifest.bytes()};
            if (image.config.diff_ids().size() != manifest.layers().size())
                throw overmount::error(overmount::errc::invalid_config).entry(entry.digest().string());
            for (const auto& [blob, promised] : manifest.layers()) {
                auto open_at = [server, path = path_of(blob)](std::uint64_t offset) { return open(server, path, offset); };
                // Carries on where a connection broke.
                auto open_layer = [open_at, size = blob.size()]() -> awaitable<overmount::byte_stream> {
                    co_return overmount::resuming_stream(open_at, size);
                };
                image.layers.push_back({image.config.diff_ids()[image.layers.size()],
                                        overmount::layer_source(open_layer, blob.size()), blob.digest(), promised});
            }
            out.push_back(std::move(image));
        }
        co_return out;
    }

    static awaitable<overmount::byte_stream> open(endpoint server, std::string path, std::uint64_t offset)
    {
        boost::asio::ip::tcp::socket socket(co_await boost::asio::this_coro::executor);
        co_await socket.async_connect(server, boost::asio::use_awaitable);
        const std::string request = std::to_string(offset) + ' ' + path + '\n';
        co_await boost::asio::async_write(socket, boost::asio::buffer(request), boost::asio::use_awaitable);
        co_return overmount::byte_stream(std::move(socket));
    }

    static awaitable<std::string> read_document(endpoint server, overmount::descriptor what, overmount::limits bounds)
    {
        std::string out = co_await read_text(server, path_of(what), bounds);
        if (overmount::digest::of(out, what.digest().algorithm()) != what.digest())
            throw overmount::error(overmount::errc::digest_mismatch).entry(path_of(what));
        co_return out;
    }
    static awaitable<std::string> read_text(endpoint server, std::string path, overmount::limits bounds)
    {
        const auto stream = co_await open(server, path, 0);
        std::string out;
        std::array<std::byte, 4096> piece;
        const std::span<std::byte> room(piece);
        while (const std::size_t count = co_await stream.read_some(room))
            if (out.append(reinterpret_cast<const char*>(piece.data()), count).size() > bounds.json_bytes)
                throw overmount::error(overmount::errc::json_limit_exceeded).entry(path);
        co_return out;
    }

    static std::string path_of(const overmount::descriptor& what)
    {
        return "blobs/" + std::string(to_string(what.digest().algorithm())) + '/' + what.digest().hex();
    }

    endpoint server_;
};

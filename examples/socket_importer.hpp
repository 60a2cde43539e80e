// A custom importer, for an OCI layout on a TCP server. The request `OFFSET PATH\n` returns the bytes of a file from that offset to its
// end. `discover` reads the documents; layers that the repository lacks are fetched later, in parallel.
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
        const overmount::limits& bounds = context.bounds();
        const auto index = overmount::index::parse(co_await read("index.json", std::nullopt, bounds), bounds);
        std::vector<overmount::found_image> out;
        for (const auto& entry : index.entries()) {
            const auto manifest = overmount::manifest::parse(co_await read(path_of(entry), entry.digest(), bounds), bounds);
            const auto& described = manifest.config();
            auto config = overmount::image_config::parse(co_await read(path_of(described), described.digest(), bounds), bounds);
            overmount::found_image image{std::move(config), {}, manifest.bytes()};
            if (image.config.diff_ids().size() != manifest.layers().size())
                throw overmount::error(overmount::errc::invalid_config).entry(path_of(described));
            for (const auto& [blob, promised] : manifest.layers())
                image.layers.push_back({image.config.diff_ids()[image.layers.size()], bytes_of(blob), blob.digest(), promised});
            out.push_back(std::move(image));
        }
        co_return out;
    }

private:
    // Opens the blob only if the repository lacks the layer; after a broken connection, opens it again at the offset reached.
    overmount::layer_source bytes_of(const overmount::descriptor& blob) const
    {
        auto open_at = [server = server_, path = path_of(blob)](std::uint64_t offset) { return open(server, path, offset); };
        auto open_layer = [open_at, size = blob.size()]() -> awaitable<overmount::byte_stream> {
            co_return overmount::resuming_stream(open_at, size);
        };
        return overmount::layer_source(open_layer, blob.size());
    }

    static awaitable<overmount::byte_stream> open(endpoint server, std::string path, std::uint64_t offset)
    {
        boost::asio::ip::tcp::socket socket(co_await boost::asio::this_coro::executor);
        co_await socket.async_connect(server, boost::asio::use_awaitable);
        const std::string request = std::to_string(offset) + ' ' + path + '\n';
        co_await boost::asio::async_write(socket, boost::asio::buffer(request), boost::asio::use_awaitable);
        co_return overmount::byte_stream(std::move(socket));
    }

    awaitable<std::string> read(std::string path, std::optional<overmount::digest> id, overmount::limits bounds) const
    {
        const auto stream = co_await open(server_, path, 0);
        std::string out;
        std::array<std::byte, 4096> piece;
        while (const std::size_t count = co_await stream.read_some(piece))
            if (out.append(reinterpret_cast<const char*>(piece.data()), count).size() > bounds.json_bytes)
                throw overmount::error(overmount::errc::json_limit_exceeded).entry(path);
        if (id && overmount::digest::of(out, id->algorithm()) != *id)
            throw overmount::error(overmount::errc::digest_mismatch).entry(path);
        co_return out;
    }

    static std::string path_of(const overmount::descriptor& what)
    {
        return "blobs/" + std::string(to_string(what.digest().algorithm())) + '/' + what.digest().hex();
    }

    endpoint server_;
};

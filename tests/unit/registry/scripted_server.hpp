// A server that sends and expects exact bytes, on threads of its own, and certificates for it.
#ifndef OVERMOUNT_TESTS_UNIT_REGISTRY_SCRIPTED_SERVER_HPP
#define OVERMOUNT_TESTS_UNIT_REGISTRY_SCRIPTED_SERVER_HPP

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace overmount::test {

// A key with a certificate, which is its own issuer unless one is given.
class certificate
{
public:
    // \param names as in openssl.cnf: `DNS:localhost,IP:127.0.0.1`
    explicit certificate(const std::string& common_name, const std::string& names = {}, const certificate* issuer = nullptr)
        : key_(::EVP_EC_gen("P-256"), ::EVP_PKEY_free), x509_(::X509_new(), ::X509_free)
    {
        static long serial = 1;
        ::X509* const made = x509_.get();
        ::X509_set_version(made, 2);
        ::ASN1_INTEGER_set(::X509_get_serialNumber(made), ++serial);
        ::X509_gmtime_adj(::X509_getm_notBefore(made), -3600);
        ::X509_gmtime_adj(::X509_getm_notAfter(made), 3600);
        ::X509_set_pubkey(made, key_.get());
        ::X509_NAME* const name = ::X509_get_subject_name(made);
        ::X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1, 0);
        ::X509_set_issuer_name(made, issuer != nullptr ? ::X509_get_subject_name(issuer->x509_.get()) : name);
        add(NID_basic_constraints, issuer == nullptr ? "critical,CA:TRUE" : "CA:FALSE");
        if (!names.empty())
            add(NID_subject_alt_name, names);
        ::X509_sign(made, issuer != nullptr ? issuer->key_.get() : key_.get(), ::EVP_sha256());
    }

    void write(const std::string& path) const
    {
        std::FILE* const file = std::fopen(path.c_str(), "w");
        ::PEM_write_X509(file, x509_.get());
        std::fclose(file);
    }
    void write_key(const std::string& path, const char* passphrase = nullptr) const
    {
        std::FILE* const file = std::fopen(path.c_str(), "w");
        ::PEM_write_PrivateKey(file, key_.get(), passphrase != nullptr ? ::EVP_aes_128_cbc() : nullptr, nullptr, 0, nullptr,
                               const_cast<char*>(passphrase));
        std::fclose(file);
    }
    // Settings of a server that shows this certificate.
    [[nodiscard]] std::shared_ptr<::SSL_CTX> server_context() const
    {
        std::shared_ptr<::SSL_CTX> out(::SSL_CTX_new(::TLS_server_method()), ::SSL_CTX_free);
        ::SSL_CTX_use_certificate(out.get(), x509_.get());
        ::SSL_CTX_use_PrivateKey(out.get(), key_.get());
        return out;
    }
    [[nodiscard]] ::X509* x509() const noexcept { return x509_.get(); }

private:
    void add(int kind, const std::string& value)
    {
        ::X509_EXTENSION* const extension = ::X509V3_EXT_conf_nid(nullptr, nullptr, kind, value.c_str());
        ::X509_add_ext(x509_.get(), extension, -1);
        ::X509_EXTENSION_free(extension);
    }
    std::unique_ptr<::EVP_PKEY, void (*)(::EVP_PKEY*)> key_;
    std::unique_ptr<::X509, void (*)(::X509*)> x509_;
};

// The server's side of one connection. Calls block; after the client's end they return less, and do not fail.
class peer
{
public:
    explicit peer(int fd) : fd_(fd) {}
    peer(const peer&) = delete;
    peer& operator=(const peer&) = delete;
    ~peer() { ::SSL_free(ssl_); }

    // False if the handshake failed.
    bool start_tls(::SSL_CTX* context)
    {
        ssl_ = ::SSL_new(context);
        ::SSL_set_fd(ssl_, fd_);
        return ::SSL_accept(ssl_) == 1;
    }
    [[nodiscard]] ::SSL* ssl() const noexcept { return ssl_; }
    // Sends close_notify.
    void end_tls() { ::SSL_shutdown(ssl_); }

    std::string read_until(std::string_view end)
    {
        std::string out;
        for (char c = 0; !out.ends_with(end) && read(&c, 1) == 1;)
            out += c;
        return out;
    }
    std::string head() { return read_until("\r\n\r\n"); }
    std::string read(std::size_t size)
    {
        std::string out(size, '\0');
        std::size_t done = 0;
        for (std::size_t got = 1; done < size && got > 0; done += got)
            got = read(out.data() + done, size - done);
        out.resize(done);
        return out;
    }
    // Reads until the client closes.
    void wait_closed()
    {
        char dropped[4096];
        while (read(dropped, sizeof dropped) > 0) {
        }
    }
    bool write(std::string_view bytes)
    {
        while (!bytes.empty()) {
            const auto count = ssl_ != nullptr ? ::SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()))
                                               : static_cast<int>(::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL));
            if (count <= 0)
                return false;
            bytes.remove_prefix(static_cast<std::size_t>(count));
        }
        return true;
    }
    // Does nothing for so long, or until the client closes.
    void pause(std::chrono::microseconds time) const
    {
        pollfd closed{fd_, POLLRDHUP, 0};
        const timespec limit{0, time.count() * 1000};
        ::ppoll(&closed, 1, &limit, nullptr);
    }
    // Over a unix socket: waits until the client has read what was written.
    void wait_read() const
    {
        for (int unread = 1; ::ioctl(fd_, SIOCOUTQ, &unread) == 0 && unread > 0;)
            std::this_thread::yield();
    }
    // Reads a request and answers it.
    std::string answer(std::string_view bytes)
    {
        std::string request = head();
        write(bytes);
        return request;
    }
    // Lets the end of the script reset the connection.
    void reset()
    {
        const linger now{1, 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    [[nodiscard]] int fd() const noexcept { return fd_; }

private:
    std::size_t read(char* into, std::size_t size)
    {
        const auto count = ssl_ != nullptr ? ::SSL_read(ssl_, into, static_cast<int>(size)) : static_cast<int>(::recv(fd_, into, size, 0));
        return count > 0 ? static_cast<std::size_t>(count) : 0;
    }
    int fd_;
    ::SSL* ssl_ = nullptr;
};

class scripted_server
{
public:
    // Runs for each connection, on a thread of its own; the connections are numbered from 0. Its end closes the connection.
    using script = std::function<void(peer&, int)>;

    explicit scripted_server(script play) : play_(std::move(play))
    {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
        listen(AF_INET, reinterpret_cast<const sockaddr*>(&address), sizeof address);
        socklen_t size = sizeof address;
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
        port_ = ::ntohs(address.sin_port);
    }
    scripted_server(const std::string& unix_path, script play) : play_(std::move(play))
    {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::strncpy(address.sun_path, unix_path.c_str(), sizeof address.sun_path - 1);
        listen(AF_UNIX, reinterpret_cast<const sockaddr*>(&address), sizeof address);
    }
    scripted_server(const scripted_server&) = delete;
    scripted_server& operator=(const scripted_server&) = delete;
    ~scripted_server() { stop(); }

    [[nodiscard]] std::uint16_t port() const noexcept { return port_; }

    // Ends all scripts; then everything that they recorded is there.
    void stop()
    {
        if (!acceptor_.joinable())
            return;
        ::shutdown(listener_, SHUT_RDWR);
        acceptor_.join();
        ::close(listener_);
        {
            const std::lock_guard guard(mutex_);
            for (const int fd : open_)
                ::shutdown(fd, SHUT_RDWR);
        }
        for (std::thread& one : players_)
            one.join();
    }
    void record(std::string text)
    {
        const std::lock_guard guard(mutex_);
        records_.push_back(std::move(text));
    }
    [[nodiscard]] std::vector<std::string> records()
    {
        const std::lock_guard guard(mutex_);
        return records_;
    }
    // How many connections came, once there are so many: the client knows of one earlier than the server.
    [[nodiscard]] int connections(std::size_t at_least = 0)
    {
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, std::chrono::seconds(60), [&] { return players_.size() >= at_least; });
        return static_cast<int>(players_.size());
    }
    // Waits until `expected` is true of the number of connections that are open at this end: it knows of a change later than the client.
    [[nodiscard]] bool waits_for(const std::function<bool(std::size_t)>& expected)
    {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, std::chrono::seconds(60), [&] { return expected(open_.size()); });
    }

private:
    void listen(int family, const sockaddr* address, socklen_t size)
    {
        listener_ = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (::bind(listener_, address, size) != 0 || ::listen(listener_, 64) != 0)
            throw std::runtime_error("the server cannot listen");
        acceptor_ = std::thread([this] { accept(); });
    }
    void accept()
    {
        for (int number = 0;; ++number) {
            const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
            if (fd < 0)
                return;
            const std::lock_guard guard(mutex_);
            open_.push_back(fd);
            players_.emplace_back([this, fd, number] { play(fd, number); });
            changed_.notify_all();
        }
    }
    void play(int fd, int number)
    {
        sigset_t pipes; // OpenSSL writes without MSG_NOSIGNAL
        sigemptyset(&pipes);
        sigaddset(&pipes, SIGPIPE);
        ::pthread_sigmask(SIG_BLOCK, &pipes, nullptr);
        {
            peer one(fd);
            play_(one, number);
        }
        const std::lock_guard guard(mutex_);
        open_.remove(fd);
        ::close(fd);
        changed_.notify_all();
    }

    script play_;
    int listener_ = -1;
    std::uint16_t port_ = 0;
    std::thread acceptor_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::list<std::thread> players_;
    std::list<int> open_;
    std::vector<std::string> records_;
};

} // namespace overmount::test

#endif

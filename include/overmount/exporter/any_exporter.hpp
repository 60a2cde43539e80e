#ifndef OVERMOUNT_EXPORTER_ANY_EXPORTER_HPP
#define OVERMOUNT_EXPORTER_ANY_EXPORTER_HPP

#include <overmount/exporter/exporter.hpp>
#include <overmount/runtime/new_shared.hpp>

#include <concepts>
#include <memory>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI {

/// An exporter of any type, to be chosen while the program runs; what uses it is compiled once. Copies share the exporter.
///
/// *Concurrency*: as the exporter that it holds.
class any_exporter
{
public:
    template <class Exporter>
        requires(!std::same_as<Exporter, any_exporter>) && exporter<Exporter>
    explicit any_exporter(Exporter target) : target_(detail::new_shared<model<Exporter>>(std::move(target)))
    {}

    /// Calls `write` of the wrapped object. This object must outlive the operation.
    OVERMOUNT_LAZY
    [[nodiscard]] boost::asio::awaitable<void> write(std::vector<offered_image> images, export_context context) const
    {
        return target_->write(std::move(images), std::move(context));
    }

private:
    struct any
    {
        virtual ~any() = default;
        virtual boost::asio::awaitable<void> write(std::vector<offered_image> images, export_context context) const = 0;
    };
    template <class Exporter>
    struct model final : any
    {
        explicit model(Exporter value) : target(std::move(value)) {}
        boost::asio::awaitable<void> write(std::vector<offered_image> images, export_context context) const override
        {
            return target.write(std::move(images), std::move(context));
        }
        Exporter target;
    };
    std::shared_ptr<const any> target_;
};

} // namespace overmount::OVERMOUNT_ABI

#endif

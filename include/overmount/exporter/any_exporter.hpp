// An exporter of any type, so that what exports is compiled once.
#ifndef OVERMOUNT_EXPORTER_ANY_EXPORTER_HPP
#define OVERMOUNT_EXPORTER_ANY_EXPORTER_HPP

#include <overmount/exporter/exporter.hpp>
#include <overmount/runtime/new_shared.hpp>

#include <concepts>
#include <memory>
#include <utility>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

class any_exporter
{
public:
    template <class Exporter>
        requires(!std::same_as<Exporter, any_exporter>) && exporter<Exporter>
    explicit any_exporter(Exporter target) : target_(new_shared<model<Exporter>>(std::move(target)))
    {}

    // Whoever awaits it keeps this.
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

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

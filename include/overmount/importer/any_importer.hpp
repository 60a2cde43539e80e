// An importer of any type, so that what imports is compiled once.
#ifndef OVERMOUNT_IMPORTER_ANY_IMPORTER_HPP
#define OVERMOUNT_IMPORTER_ANY_IMPORTER_HPP

#include <overmount/importer/importer.hpp>
#include <overmount/runtime/new_shared.hpp>

#include <concepts>
#include <memory>
#include <utility>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

class any_importer
{
public:
    template <class Importer>
        requires(!std::same_as<Importer, any_importer>) && importer<Importer>
    explicit any_importer(Importer source) : source_(new_shared<model<Importer>>(std::move(source)))
    {}

    // Whoever awaits it keeps this.
    OVERMOUNT_LAZY [[nodiscard]] boost::asio::awaitable<std::vector<found_image>> discover(import_context context) const
    {
        return source_->discover(std::move(context));
    }

private:
    struct any
    {
        virtual ~any() = default;
        virtual boost::asio::awaitable<std::vector<found_image>> discover(import_context context) const = 0;
    };
    template <class Importer>
    struct model final : any
    {
        explicit model(Importer value) : source(std::move(value)) {}
        boost::asio::awaitable<std::vector<found_image>> discover(import_context context) const override
        {
            return source.discover(std::move(context));
        }
        Importer source;
    };
    std::shared_ptr<const any> source_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

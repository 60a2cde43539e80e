#ifndef OVERMOUNT_IMPORTER_ANY_IMPORTER_HPP
#define OVERMOUNT_IMPORTER_ANY_IMPORTER_HPP

#include <overmount/importer/importer.hpp>
#include <overmount/runtime/new_shared.hpp>

#include <concepts>
#include <memory>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI {

/// An importer of any type, to be chosen while the program runs; what uses it is compiled once. Copies share the importer.
///
/// *Concurrency*: as the importer that it holds.
class any_importer
{
public:
    template <class Importer>
        requires(!std::same_as<Importer, any_importer>) && importer<Importer>
    explicit any_importer(Importer source) : source_(detail::new_shared<model<Importer>>(std::move(source)))
    {}

    /// Calls `discover` of the wrapped object. This object must outlive the operation.
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

} // namespace overmount::OVERMOUNT_ABI

#endif

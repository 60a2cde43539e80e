#include <overmount/repository.hpp>

#include "support/catch.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"
#include "support/tar_writer.hpp"
#include "support/tree.hpp"

#include <fstream>

namespace asio = boost::asio;
using ::test::get;
namespace fs = std::filesystem;
namespace om = overmount;

using om::errc;
using om::test::list_tree;
using om::test::scratch_directory;
using om::test::tar_writer;

namespace {

template <class Value>
boost::system::error_code failure_of(asio::awaitable<Value> task)
{
    try {
        (void)get(std::move(task));
    } catch (const om::error& failure) {
        return failure.code();
    }
    return {};
}

// Two layers, one on the other.
template <class Repository>
class two_layers
{
public:
    two_layers()
        : repository(get(Repository::open(scratch / "repository", om::repository_options().workers(1)))),
          lower(make(tar_writer().file("a", "1"), std::nullopt)), upper(make(tar_writer().file("b", "2"), lower)),
          diffs{repository.layer(lower).diff(), repository.layer(upper).diff()}
    {
    }
    [[nodiscard]] om::chain_id make(const tar_writer& tar, std::optional<om::chain_id> parent)
    {
        std::ofstream(scratch / "tar", std::ios::binary) << tar.finish();
        return get(repository.create_layer(scratch / "tar", std::move(parent)));
    }
    // All files except leases, whose directory changes with each lease.
    [[nodiscard]] std::string tree() const
    {
        std::string out;
        for (const char* part : {"diffs", "layers", "images", "tags", "manifests", "tmp", "claims"})
            out += list_tree(repository.base() / part);
        return out;
    }

    scratch_directory scratch;
    Repository repository;
    om::chain_id lower, upper;
    std::vector<om::diff_id> diffs;
};

om::image_config config(const std::vector<om::diff_id>& layers = {})
{
    om::image_config_edit edit(om::platform("linux", "amd64"));
    return edit.replace_layers(layers).user("me").build(om::limits());
}

using repositories = std::tuple<om::repository, om::virtual_repository>;

} // namespace

TEMPLATE_LIST_TEST_CASE("an image is created from a config and a chain of layers", "", repositories)
{
    two_layers<TestType> made;
    const auto image =
        get(made.repository.create_image(config(), made.upper, om::import_options().tag("x").tag("example.com/y:2")));
    CHECK(image.config().diff_ids() == made.diffs);
    CHECK(image.config().user() == "me");
    CHECK(image.layers() == std::vector{made.repository.layer(made.upper), made.repository.layer(made.lower)});
    CHECK(image.top() == image.layers().front());
    CHECK(made.repository.find_image("x").id() == image.id());
    CHECK(made.repository.find_image("example.com/y:2").config().bytes() == image.config().bytes());
    CHECK(fs::is_empty(made.repository.base() / "leases"));
    const auto lower = get(made.repository.create_image(config(), made.lower));
    CHECK(lower.config().diff_ids() == std::vector<om::diff_id>{made.diffs[0]});
    CHECK(made.repository.images().size() == 2);
}

TEMPLATE_LIST_TEST_CASE("a config that already names its layers is kept byte for byte", "", repositories)
{
    two_layers<TestType> made;
    const auto named = om::image_config::parse(" " + config(made.diffs).bytes() + "\n", om::limits());
    CHECK(get(made.repository.create_image(named, made.upper)).id() == named.id());
    CHECK(get(made.repository.create_image(named)).config().bytes() == named.bytes());
    // A new chain of existing diffs.
    const auto turned = config({made.diffs[1], made.diffs[0]});
    const auto image = get(made.repository.create_image(turned));
    CHECK(made.repository.layer(image.layers()[0]).parent_id() == image.layers()[1]);
    CHECK(get(made.repository.create_image(config())).layers().empty());
}

TEMPLATE_LIST_TEST_CASE("a config and a chain that do not match create no image and leave nothing", "", repositories)
{
    two_layers<TestType> made;
    const om::diff_id missing(om::digest::of("missing"));
    const auto before = made.tree();
    const auto fails = [&](om::image_config from, std::optional<om::chain_id> top) {
        return failure_of(made.repository.create_image(std::move(from), std::move(top)));
    };
    CHECK(fails(config({made.diffs[0]}), made.upper) == errc::image_cannot_be_composed);
    CHECK(fails(config({made.diffs[1], made.diffs[0]}), made.upper) == errc::image_cannot_be_composed);
    const auto steps = om::image_config::parse(
        R"({"rootfs":{"type":"layers","diff_ids":[]},"history":[{},{},{}]})", om::limits());
    CHECK(fails(steps, made.upper) == errc::image_cannot_be_composed);
    CHECK(fails(config({made.diffs[0], missing}), std::nullopt) == errc::layer_not_found);
    CHECK(fails(config(), om::chain_id::of(missing)) == errc::layer_not_found);
    CHECK(made.repository.images().empty());
    CHECK(made.tree() == before);
    CHECK(fs::is_empty(made.repository.base() / "leases"));
}

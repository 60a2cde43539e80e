#include <overmount/overmount.hpp>

#include "support/catch.hpp"
#include "support/read_all.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"
#include "support/tar_writer.hpp"

#include <fstream>
#include <sstream>
#include <tuple>
#include <unordered_set>

namespace asio = boost::asio;
using ::test::get;
namespace fs = std::filesystem;
namespace om = overmount;

using om::errc;
using om::test::read_all;
using om::test::scratch_directory;
using om::test::tar_writer;

namespace {

using repositories = std::tuple<om::repository, om::virtual_repository>;

const tar_writer low = tar_writer().directory("d").file("d/f", "low"), high = tar_writer().whiteout("d/f").file("g", "high").hard_link("h", "g");

// Two layers, one on the other.
template <class Repository>
class two
{
public:
    two()
        : repository(get(Repository::open(scratch / "repository", om::repository_options().workers(1)))),
          below(make(low, std::nullopt)), above(make(high, below))
    {
    }
    typename Repository::layer_type make(const tar_writer& tar, std::optional<om::chain_id> parent)
    {
        std::ofstream(scratch / "tar", std::ios::binary) << tar.finish();
        return get(repository.create_layer(scratch / "tar", std::move(parent)));
    }
    [[nodiscard]] fs::path record(const om::chain_id& chain) const
    {
        return scratch / "repository/layers/sha256" / chain.value().hex() / "layer.json";
    }

    scratch_directory scratch;
    Repository repository;
    typename Repository::layer_type below, above;
};

template <class Function>
boost::system::error_code code_of(const Function& call)
{
    try {
        call();
    } catch (const om::error& failure) {
        return failure.code();
    }
    return {};
}

om::diff_id diff_of(const tar_writer& tar) { return om::diff_id(om::digest::of(tar.finish())); }

} // namespace

TEMPLATE_LIST_TEST_CASE("a layer knows its IDs, the one below it and its size", "", repositories)
{
    const two<TestType> made;
    CHECK(made.below.diff() == diff_of(low));
    CHECK(made.below.id() == om::chain_id::of(diff_of(low)));
    CHECK(made.above.diff() == diff_of(high));
    CHECK(made.above.id() == om::chain_id::of(made.below, diff_of(high)));
    CHECK_FALSE(made.below.parent());
    CHECK_FALSE(made.below.parent_id());
    CHECK(made.above.parent_id() == made.below.id());
    REQUIRE(made.above.parent());
    CHECK(*made.above.parent() == made.below);
    CHECK(made.above.parent()->diff() == made.below.diff());
    CHECK(made.above.size() == high.finish().size());
    CHECK(made.above.record().entries == 3);
    fs::remove_all(made.record(made.below).parent_path());
    CHECK(code_of([&] { static_cast<void>(made.above.parent()); }) == errc::layer_not_found);
    fs::remove_all(made.scratch / "repository/diffs/sha256");
    fs::create_directory(made.scratch / "repository/diffs/sha256");
    CHECK(code_of([&] { static_cast<void>(made.above.size()); }) == errc::layer_not_found);
    CHECK(code_of([&] { static_cast<void>(made.above.record()); }) == errc::layer_not_found);
}

TEMPLATE_LIST_TEST_CASE("the content of a layer is listed, read, packed and verified", "", repositories)
{
    const two<TestType> made;
    std::string names;
    auto visitor = [&names](const om::tar::entry& one) { names += one.path + " "; };
    get(made.above.files(visitor));
    CHECK(names == "d/.wh.f g h ");
    CHECK(get(read_all(get(made.above.open("h")))) == "high");
    CHECK(code_of([&] { static_cast<void>(get(made.above.open("d/f"))); }) == errc::entry_not_found); // the layer below has it
    CHECK(get(read_all(get(made.above.pack()))) == high.finish());
    CHECK(made.above.asset().id() == made.above.diff());
    get(made.above.verify());
    // Change a byte in the data of the file.
    for (const auto& found : fs::recursive_directory_iterator(made.repository.base() / "diffs/sha256" / made.above.diff().value().hex()))
        if (found.path().filename() == "g" || found.path().filename() == "layer.tar") {
            std::fstream file(found.path(), std::ios::in | std::ios::out | std::ios::binary);
            std::string text((std::istreambuf_iterator<char>(file)), {});
            file.clear();
            file.seekp(static_cast<std::streamoff>(text.find("high")));
            file << "HIGH";
        }
    constexpr bool unpacked = std::is_same_v<TestType, om::repository>;
    CHECK(code_of([&] { get(made.above.verify()); }) == (unpacked ? errc::diff_changed : errc::invalid_asset));
    get(made.below.verify());
}

TEMPLATE_LIST_TEST_CASE("layers are listed, found and looked up", "", repositories)
{
    const two<TestType> made;
    const auto listed = made.repository.layers();
    REQUIRE(listed.size() == 2);
    CHECK(std::is_sorted(listed.begin(), listed.end()));
    CHECK(std::unordered_set(listed.begin(), listed.end()) == std::unordered_set{made.below, made.above});
    CHECK(made.repository.layer(made.above.id()) == made.above);
    CHECK(made.repository.layer(made.above).parent() == made.below);
    CHECK(made.repository.find_layer(made.above.id().string().substr(0, 20)) == made.above);
    const om::digest none = om::digest::of("none");
    CHECK(code_of([&] { static_cast<void>(made.repository.layer(om::chain_id(none))); }) == errc::layer_not_found);
    CHECK(made.repository.contains(made.above));
    CHECK(made.repository.contains(made.above.id()));
    CHECK(made.repository.contains(made.above.diff()));
    CHECK_FALSE(made.repository.contains(om::chain_id(none)));
    CHECK_FALSE(made.repository.contains(om::diff_id(none)));
    // A diff ID does not name a layer: the chain ID of the upper layer is another digest.
    CHECK_FALSE(made.repository.contains(om::chain_id(made.above.diff().value())));

    // The record of another layer, and a file that is not a record.
    fs::copy_file(made.record(made.below), made.record(made.above), fs::copy_options::overwrite_existing);
    CHECK(code_of([&] { static_cast<void>(made.repository.layer(made.above)); }) == errc::corrupt_repository);
    CHECK(code_of([&] { static_cast<void>(made.repository.contains(made.above)); }) == errc::corrupt_repository);
    std::ofstream(made.record(made.below)) << "{";
    std::vector<std::string> damaged;
    CHECK(made.repository.layers([&damaged](const om::error& failure) { damaged.emplace_back(failure.subject()); }).empty());
    CHECK(damaged.size() == 2);
    for (const auto& chain : {made.below.id(), made.above.id()})
        CHECK(std::find(damaged.begin(), damaged.end(), "layers/sha256/" + chain.value().hex() + "/layer.json") != damaged.end());
    CHECK(made.repository.layers().empty());
}

TEMPLATE_LIST_TEST_CASE("a layer is removed unless something needs it", "", repositories)
{
    const two<TestType> made;
    CHECK(code_of([&] { get(made.below.remove()); }) == errc::layer_in_use);
    get(made.above.remove());
    CHECK_FALSE(made.repository.contains(made.above));
    CHECK(made.repository.contains(made.above.diff())); // until it is collected
    CHECK(code_of([&] { get(made.above.remove()); }) == errc::layer_not_found);
    get(made.below.remove());
    CHECK(made.repository.layers().empty());
}

TEMPLATE_LIST_TEST_CASE("an image is made from a layer, and lists its layers", "", repositories)
{
    const two<TestType> made;
    const auto config = om::image_config_edit(om::platform("linux", "amd64")).build(om::limits());
    const auto image = get(made.repository.create_image(config, made.above));
    const auto layers = image.layers();
    CHECK(layers == std::vector{made.above, made.below});
    CHECK(layers[0].parent_id() == made.below.id());
    CHECK(layers[0].diff() == made.above.diff());
    CHECK(image.top() == made.above);
    CHECK_FALSE(get(made.repository.create_image(config)).top());
    CHECK(get(made.repository.diff(made.below, made.above)).size() == 3);
    CHECK(code_of([&] { get(made.above.remove()); }) == errc::layer_in_use);
}

TEST_CASE("layers are compared by their IDs, printed and hashed")
{
    const two<om::repository> made;
    const two<om::repository> other;
    CHECK(made.above == other.above);
    CHECK(made.above != made.below);
    CHECK((made.above < made.below) == (made.above.id() < made.below.id()));
    CHECK(made.above == made.above.id()); // it converts to its chain ID
    std::ostringstream text;
    text << made.above << ' ' << made.above.id() << ' ' << made.above.diff() << ' ' << made.above.diff().value();
    const std::string diff = made.above.diff().string();
    CHECK(text.str() == made.above.id().string() + " " + made.above.id().string() + " " + diff + " " + diff);
    CHECK(std::hash<om::layer>()(made.above) == std::hash<om::chain_id>()(made.above.id()));
    CHECK(std::unordered_set{made.above, made.below, other.above}.size() == 2);
    static_assert(std::is_same_v<om::layer, om::repository::layer_type>);
    static_assert(!std::is_same_v<om::layer, om::virtual_repository::layer_type>);
    static_assert(!std::is_aggregate_v<om::layer>);
}

TEST_CASE("a layer is copied from one repository to another, and has the same IDs there")
{
    two<om::repository> from;
    const scratch_directory scratch;
    const auto to = get(om::virtual_repository::open(scratch / "repository", om::repository_options().workers(1)));
    const auto below = get(to.import_asset(from.below.asset()));
    CHECK(below.id() == from.below.id());
    const auto above = get(to.import_asset(from.above.asset(), below));
    CHECK(above.id() == from.above.id());
    CHECK(above.parent() == below);
}

#include <overmount/repository/records/find.hpp>

#include "support/catch.hpp"
#include "support/scratch.hpp"

#include <string>

using overmount::digest;
using overmount::durability;
using overmount::errc;
using overmount::detail::find_image_id;
using overmount::detail::record_batch;
using overmount::detail::unique_prefix;

namespace {

digest beginning_with(std::string digits)
{
    digits.resize(64, '0');
    return digest::parse("sha256:" + digits);
}

struct named
{
    named()
    {
        record_batch batch(records.staging.fd(), durability::none);
        for (const digest& id : {first, second})
            records.image_files.add(batch, id, "{}", false);
        batch.publish();
    }
    void tag(const std::string& name, const digest& id)
    {
        record_batch batch(records.staging.fd(), durability::none);
        records.tag_files.add(batch, {"docker.io/library/" + name, id, {}, {}, {}});
        batch.publish();
    }

    overmount::test::scratch_directory scratch;
    overmount::detail::store records{scratch / "repository", "directory", false};
    digest first = beginning_with("c72a"), second = beginning_with("c72b");
};

} // namespace

TEST_CASE("a tag takes precedence over an ID prefix")
{
    named at;
    CHECK(find_image_id(at.records, "c72a") == at.first);
    at.tag("c72:latest", at.second);
    at.tag("c72a:latest", at.second);
    CHECK(find_image_id(at.records, "c72") == at.second);
    CHECK(find_image_id(at.records, "c72a") == at.second);
    CHECK(find_image_id(at.records, "c72a0") == at.first);
    CHECK(find_image_id(at.records, "sha256:c72a") == at.first);
}

TEST_CASE("a name with a digest algorithm is never a tag, and a whole ID is found")
{
    named at;
    at.tag("sha256:c72a", at.second);
    at.tag(at.first.hex() + ":latest", at.second);
    CHECK(find_image_id(at.records, "sha256:c72a") == at.first);
    CHECK(find_image_id(at.records, at.first.string()) == at.first);
    CHECK(find_image_id(at.records, at.first.hex()) == at.first);
}

TEST_CASE("an ID prefix has at least four digits")
{
    const std::vector<digest> ids{beginning_with("c72a"), beginning_with("d"), beginning_with("c72af")};
    const auto found = [&](std::string_view name) { return unique_prefix(ids, name, errc::ambiguous_image_id); };
    for (const char* name : {"", "d", "d00", "sha256:", "sha256:d", "sha256:d00", "sha2", "sha256"})
        CHECK(found(name) == std::nullopt);
    for (const char* name : {"d000", "sha256:d000"})
        CHECK(found(name) == ids[1]);
    CHECK(found("c72af") == ids[2]);
    for (const char* name : {"c72a", "sha256:c72a"}) {
        try {
            static_cast<void>(found(name));
            FAIL("there are two of " << name);
        } catch (const overmount::error& failure) {
            CHECK(failure.code() == errc::ambiguous_image_id);
        }
    }
}

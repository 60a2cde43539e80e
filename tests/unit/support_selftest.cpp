// The tests' own tools: other programs must be able to read their output.
#include "support/catch.hpp"
#include "support/image_builder.hpp"
#include "support/scratch.hpp"
#include "support/skip.hpp"
#include "support/tree.hpp"

#include <sys/xattr.h>

#include <array>
#include <cstdio>
#include <iostream>
#include <regex>
#include <string>

using namespace std::string_literals;
using namespace overmount::test;
using Catch::Matchers::ContainsSubstring;
using overmount::compression;

namespace {

struct outcome
{
    int status = 0;
    std::string text;
};

outcome run(const std::string& command)
{
    outcome out;
    FILE* pipe = ::popen(("{ " + command + "; } 2>&1").c_str(), "r");
    REQUIRE(pipe != nullptr);
    std::array<char, 4096> buffer{};
    while (const auto got = std::fread(buffer.data(), 1, buffer.size(), pipe))
        out.text.append(buffer.data(), got);
    out.status = ::pclose(pipe);
    return out;
}

bool have(const char* program)
{
    return run("command -v "s + program).status == 0;
}

const std::string long_name = "deep/" + std::string(90, 'p') + "/" + std::string(90, 'n');
const std::string longest_name = "deep/" + std::string(200, 'x');

std::string sample_tar()
{
    tar_writer tar;
    tar.directory("bin", {.mode = 0750, .mtime = 1'500'000'000, .mtime_ns = 1})
        .file("bin/tool", "#!/bin/sh\n",
              {.mode = 04755, .uid = 12, .gid = 34, .xattrs = {{"user.note", "a\0b"s}}})
        .hard_link("bin/again", "bin/tool")
        .whiteout("bin/gone")
        .symlink("sh", "bin/tool", {.mtime = -2, .mtime_ns = 500'000'000})
        .symlink("far", std::string(150, 't'))
        .fifo("pipe", {.mtime_ns = 123'456'789})
        .file("big-owner", "x", {.uid = 3'000'000'000, .gid = 3'000'000'001})
        .directory("deep")
        .file(long_name, "long")
        .file(longest_name, "longer")
        .file("caf\xc3\xa9 \xff", "bytes")
        .opaque("deep");
    return tar.finish();
}

image_source sample_image(std::vector<std::string> tags)
{
    const auto small = tar_writer().file("etc/hostname", "overmount\n").finish();
    return {.layers = {{sample_tar()}, {small}, {tar_writer().whiteout("sh").finish()}, {small}},
            .tags = std::move(tags),
            .runtime = R"({"Env":["A=b"]})"};
}

} // namespace

TEST_CASE("PAX records count their own length")
{
    CHECK(tar_writer::pax_record("a", "") == "5 a=\n");
    CHECK(tar_writer::pax_record("path", std::string(90, 'x')).size() == 99);
    CHECK(tar_writer::pax_record("path", std::string(91, 'x')).starts_with("101 path="));
    CHECK(tar_writer::pax_record("path", std::string(91, 'x')).size() == 101);
}

TEST_CASE("GNU tar reads what the tar writer writes")
{
    if (!have("tar"))
        OVERMOUNT_SKIP("no tar");
    scratch_directory scratch;
    file_set files;
    files.add("sample.tar", sample_tar());
    files.write_directory(scratch.path());
    const auto listed =
        run("LC_ALL=C TZ=UTC tar --numeric-owner --full-time -tvf " + (scratch / "sample.tar").string());
    // tar chooses the width of the columns.
    const auto text = std::regex_replace(listed.text, std::regex(" +"), " ");
    INFO(listed.text);
    CHECK(listed.status == 0);
    for (const auto& part :
         {"drwxr-x--- 0/0 0 2017-07-14 02:40:00.000000001 bin/"s,
          "-rwsr-xr-x 12/34 10 2023-11-14 22:13:20 bin/tool"s, "bin/again link to bin/tool"s,
          " sh -> bin/tool"s, "3000000000/3000000001"s, " far -> " + std::string(150, 't'), " " + long_name,
          " " + longest_name, "22:13:20.123456789 pipe"s, "bin/.wh.gone"s, "deep/.wh..wh..opq"s})
        CHECK_THAT(text, ContainsSubstring(part));
}

TEST_CASE("a header can be changed before and after its checksum is computed")
{
    const auto magic = [](std::string& block) { put_field(block, tar_fields::magic, "ustar  "); };
    const auto tweaked = tar_writer().file("a", "", {.tweak = magic}).bytes();
    const auto corrupted = tar_writer().file("a", "", {.corrupt = magic}).bytes();
    CHECK(tweaked.size() == 512);
    CHECK(tweaked.substr(257, 8) == "ustar  \0"s);
    CHECK(corrupted.substr(257, 8) == "ustar  \0"s);
    auto block = corrupted;
    put_checksum(block);
    CHECK(block == tweaked);
    CHECK(corrupted != tweaked);
}

TEST_CASE("a listing shows everything about a tree")
{
    if (::geteuid() != 0)
        OVERMOUNT_SKIP("not root");
    if (!have("tar"))
        OVERMOUNT_SKIP("no tar");
    scratch_directory scratch;
    file_set files;
    files.add("sample.tar", sample_tar());
    files.write_directory(scratch.path());
    const auto root = scratch / "root";
    std::filesystem::create_directory(root);
    const auto made = run("tar --warning=no-timestamp --xattrs --xattrs-include='*' -C " + root.string() +
                          " -xpf " + (scratch / "sample.tar").string() + " && mknod -m 600 " +
                          (root / "null").string() + " c 1 3 && truncate -s 1M " + (root / "hole").string());
    REQUIRE(made.text.empty());
    const auto tree = list_tree(root);
    INFO(tree);
    CHECK_THAT(line_of(tree, "."), Catch::Matchers::StartsWith(". d "));
    CHECK(line_of(tree, "bin") == "bin d 0750 0 0 - 1500000000.000000001 - - - - - - -");
    const auto sum = overmount::digest::of("#!/bin/sh\n").hex();
    const bool noted = ::getxattr((root / "bin/tool").c_str(), "user.note", nullptr, 0) > 0;
    const auto rest = " f 4755 12 34 10 1700000000.000000000 - bin/again 2 full " + sum +
                      (noted ? " user.note=a\\x00b -" : " - -");
    CHECK(line_of(tree, "bin/tool") == "bin/tool" + rest);
    CHECK(line_of(tree, "bin/again") == "bin/again" + rest);
    CHECK(line_of(tree, "sh") == "sh l 0777 0 0 8 -2.500000000 - - 1 - - - bin/tool");
    CHECK(line_of(tree, "pipe") == "pipe p 0644 0 0 - 1700000000.123456789 - - 1 - - - -");
    CHECK_THAT(line_of(tree, "null"), ContainsSubstring(" 1:3 - 1 - - - -"));
    CHECK_THAT(line_of(tree, "hole"), ContainsSubstring(" - - 1 sparse "));
    CHECK_THAT(tree, ContainsSubstring("\ncaf\\xc3\\xa9\\x20\\xff f "));
    CHECK_THAT(line_of(tree, "big-owner"), ContainsSubstring(" 3000000000 3000000001 "));

    CHECK(tree_difference(tree, list_tree(root)).empty());
    REQUIRE(run("chmod 700 " + (root / "bin/again").string()).status == 0);
    CHECK_THAT(tree_difference(tree, list_tree(root)),
               ContainsSubstring("-bin/tool f 4755") && ContainsSubstring("+bin/tool f 0700"));
}

TEST_CASE("skopeo reads the OCI layouts")
{
    if (!have("skopeo"))
        OVERMOUNT_SKIP("no skopeo");
    scratch_directory scratch;
    for (auto kind : {compression::none, compression::gzip, compression::zstd}) {
        oci_layout_writer writer(kind);
        const auto id = writer.add(sample_image({"one", "two"}));
        writer.add({.layers = {{sample_tar()}}, .tags = {"three"}, .architecture = "arm64", .variant = "v8"});
        writer.finish();
        const auto name = std::string(to_string(kind));
        writer.files().write_directory(scratch / name);
        writer.files().write_tar(scratch / (name + ".tar"));
        for (const auto& source :
             {"oci:" + (scratch / name).string(), "oci-archive:" + (scratch / name).string() + ".tar"}) {
            const auto shown = run("skopeo inspect --raw --config " + source + ":two");
            INFO(source << ": " << shown.text);
            CHECK(shown.status == 0);
            CHECK(overmount::digest::of(shown.text) == id);
            // Copying reads all layers and checks their digests.
            const auto copied = run("skopeo copy -q " + source + ":one dir:" + (scratch / "copy").string());
            INFO(copied.text);
            CHECK(copied.status == 0);
            CHECK(run("skopeo inspect " + source + ":none").status != 0);
        }
    }
}

TEST_CASE("skopeo finds the platform in an index")
{
    if (!have("skopeo"))
        OVERMOUNT_SKIP("no skopeo");
    scratch_directory scratch;
    oci_layout_writer writer;
    const auto ids = writer.add_index(
        {sample_image({}), {.layers = {{sample_tar()}}, .architecture = "arm64"}}, {"multi"});
    writer.finish().write_directory(scratch / "oci");
    for (std::size_t i = 0; i < 2; ++i) {
        const auto shown = run("skopeo --override-os linux --override-arch "s + (i == 0 ? "amd64" : "arm64") +
                               " inspect --raw --config oci:" + (scratch / "oci").string() + ":multi");
        INFO(shown.text);
        CHECK(shown.status == 0);
        CHECK(overmount::digest::of(shown.text) == ids[i]);
    }
}

TEST_CASE("skopeo reads the docker archives")
{
    if (!have("skopeo"))
        OVERMOUNT_SKIP("no skopeo");
    scratch_directory scratch;
    for (auto layout : {docker_layout::legacy, docker_layout::blobs})
        for (bool link : {false, true}) {
            docker_archive_writer writer(layout);
            if (link)
                writer.link_equal_layers();
            const auto id = writer.add(sample_image({"example/one:1", "example/one:latest"}));
            const auto other = writer.add({.layers = {{sample_tar()}}, .tags = {"two:2"}});
            const auto& files = writer.finish();
            files.write_tar(scratch / "archive.tar");
            CHECK((layout == docker_layout::legacy) == (files.paths().front() != "oci-layout"));
            for (const auto& [name, wanted] : {std::pair{"example/one:latest", id}, {"two:2", other}}) {
                const auto source = "docker-archive:" + (scratch / "archive.tar").string() + ":" + name;
                const auto shown = run("skopeo inspect --raw --config " + source);
                INFO(shown.text);
                CHECK(shown.status == 0);
                CHECK(overmount::digest::of(shown.text) == wanted);
                const auto copied = run("skopeo copy -q " + source + " dir:" + (scratch / "copy").string());
                INFO(copied.text);
                CHECK(copied.status == 0);
            }
        }
}

TEST_CASE("a scratch directory is removed with its mounts and unreadable directories")
{
    std::filesystem::path path;
    {
        scratch_directory scratch;
        path = scratch.path();
        std::filesystem::create_directories(scratch / "a b" / "closed");
        std::filesystem::create_directories(scratch / "kept");
        std::filesystem::permissions(scratch / "a b" / "closed", std::filesystem::perms::none);
        const auto target = "'" + (scratch / "a b").string() + "'";
        if (run("mount -t tmpfs none " + target + " && mount -t tmpfs none " + target).status == 0)
            CHECK(mounts_below(path).size() == 2);
        else
            std::cout << "SKIPPED: no right to mount\n";
    }
    CHECK_FALSE(std::filesystem::exists(path));
    CHECK(mounts_below(path).empty());
}

// Not a part of om: meson checks whether this links with the static libarchive, without the libraries that it needs for other formats.
#include <archive.h>

int main()
{
    archive* const in = archive_read_new();
    archive* const out = archive_write_new();
    const int failures = archive_read_support_format_tar(in) + archive_write_set_format_pax(out) +
                         archive_write_set_format_pax_restricted(out) +
                         archive_write_set_format_option(out, "pax", "xattrheader", "SCHILY") +
                         archive_read_open_memory(in, "", 0) + archive_write_open_fd(out, 1);
    return failures + archive_read_free(in) + archive_write_free(out);
}

"""Writes what `made_image` and `made_index` made as an OCI layout, for skopeo to push."""
import json
import pathlib


def write_layout(place, what, tag):
    place = pathlib.Path(place)

    def write(one):
        for digest, data in [(one.digest, one.data), *one.blobs.items()]:
            algorithm, _, hexadecimal = digest.partition(":")
            (place / "blobs" / algorithm).mkdir(parents=True, exist_ok=True)
            (place / "blobs" / algorithm / hexadecimal).write_bytes(data)
        for child in one.children:
            write(child)

    write(what)
    (place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    names = {"annotations": {"org.opencontainers.image.ref.name": tag}}
    (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [what.descriptor(**names)]}))
    return place

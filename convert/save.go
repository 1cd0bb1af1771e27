package convert

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/distribution/reference"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// blob is one file of the layout that is being written.
type blob struct {
	size int64
	open func() (io.ReadCloser, error) // nil: bytes
	data []byte
}

// layoutWriter gathers what the archive will hold; several images share what is the same.
type layoutWriter struct {
	blobs map[brig.Digest]blob
	index ociIndex
	list  []saved
	buf   []byte // for copying
}

// WriteArchive writes images as docker save does since 25: an OCI layout with a manifest.json for older readers beside it.
// Layers are written as their Blob describes them, and verified on the way. The same images always give the same bytes.
// Invalid: an image contradicts itself.
func (c *Converter) WriteArchive(ctx context.Context, w io.Writer, images []brig.ArchiveImage) error {
	l := &layoutWriter{blobs: map[brig.Digest]blob{}, index: ociIndex{SchemaVersion: 2, MediaType: typeOCIIndex, Manifests: []descriptor{}}, list: []saved{},
		buf: make([]byte, copyBuffer)}
	for _, img := range images {
		if err := l.add(img); err != nil {
			return err
		}
	}
	return l.write(ctx, tar.NewWriter(w))
}

// add enters an image.
func (l *layoutWriter) add(img brig.ArchiveImage) error {
	raw, diffs, err := parseImage(img.Config)
	if err != nil {
		return err
	}
	id := l.bytes(img.Config)
	if len(diffs) != len(img.Layers) {
		return errs.New(errs.Invalid, "save image %s: %d layers, and its config names %d", id, len(img.Layers), len(diffs))
	}
	s := saved{Config: blobPath(id), RepoTags: []string{}, Layers: []string{}}
	for _, layer := range img.Layers {
		if _, err := brig.ParseDigest(string(layer.Blob.Digest)); err != nil {
			return errs.Wrap(err, "save image %s", id)
		}
		l.blobs[layer.Blob.Digest] = blob{size: layer.Blob.Size, open: layer.Open}
		s.Layers = append(s.Layers, blobPath(layer.Blob.Digest))
	}
	d, err := l.manifest(img, id)
	if err != nil {
		return err
	}
	d.Platform = &platform{OS: raw.OS, Architecture: raw.Architecture, Variant: raw.Variant}
	if len(img.Refs) == 0 {
		l.index.Manifests = append(l.index.Manifests, d)
	}
	for _, r := range img.Refs {
		named, err := reference.ParseNormalizedNamed(r)
		if err != nil {
			return errs.New(errs.Invalid, "save image %s: invalid reference format: %q", id, r)
		}
		tagged, ok := reference.TagNameOnly(named).(reference.NamedTagged)
		if !ok {
			return errs.New(errs.Invalid, "save image %s: %q is no name and tag", id, r)
		}
		s.RepoTags = append(s.RepoTags, reference.FamiliarString(tagged))
		d.Annotations = map[string]string{annotationName: tagged.String(), annotationRef: tagged.Tag()}
		l.index.Manifests = append(l.index.Manifests, d)
	}
	l.list = append(l.list, s)
	return nil
}

// manifest enters the image's own manifest if it has one that names the same blobs, else one made for it.
func (l *layoutWriter) manifest(img brig.ArchiveImage, id brig.Digest) (descriptor, error) {
	b, mediaType := img.Manifest, typeOCIManifest
	var m ociManifest
	if b == nil || json.Unmarshal(b, &m) != nil || !describes(m, img, id) {
		m = ociManifest{SchemaVersion: 2, MediaType: typeOCIManifest, Layers: []descriptor{},
			Config: descriptor{MediaType: typeOCIConfig, Digest: string(id), Size: int64(len(img.Config))}}
		for _, layer := range img.Layers {
			d, err := layerDescriptor(layer)
			if err != nil {
				return descriptor{}, err
			}
			m.Layers = append(m.Layers, d)
		}
		var err error
		if b, err = json.Marshal(m); err != nil {
			return descriptor{}, err
		}
	}
	if m.MediaType == typeDockerManifest {
		mediaType = typeDockerManifest
	}
	return descriptor{MediaType: mediaType, Digest: string(l.bytes(b)), Size: int64(len(b))}, nil
}

// describes reports whether m is a manifest of exactly img.
func describes(m ociManifest, img brig.ArchiveImage, id brig.Digest) bool {
	if m.Config.Digest != string(id) || len(m.Layers) != len(img.Layers) {
		return false
	}
	for i, d := range m.Layers {
		if d.Digest != string(img.Layers[i].Blob.Digest) {
			return false
		}
	}
	return true
}

// layerDescriptor describes a layer in OCI's words, by its magic bytes: the media type that it came with may be missing or wrong.
func layerDescriptor(l brig.ArchiveLayer) (descriptor, error) {
	d := descriptor{MediaType: typeOCILayer, Digest: string(l.Blob.Digest), Size: l.Blob.Size}
	r, err := l.Open()
	if err != nil {
		return d, errs.Wrap(err, "save layer %s", l.Diff)
	}
	defer r.Close()
	head := make([]byte, 4)
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return d, errs.Wrap(err, "save layer %s", l.Diff)
	}
	switch {
	case n >= 2 && head[0] == 0x1f && head[1] == 0x8b:
		d.MediaType += "+gzip"
	case n == 4 && (string(head) == "\x28\xb5\x2f\xfd" || isSkippable(head)):
		d.MediaType += "+zstd"
	}
	return d, nil
}

// bytes enters a document.
func (l *layoutWriter) bytes(b []byte) brig.Digest {
	d := brig.DigestOf(b)
	l.blobs[d] = blob{size: int64(len(b)), data: b}
	return d
}

// write puts everything out, sorted by name. Times are the epoch, so that content alone decides.
func (l *layoutWriter) write(ctx context.Context, tw *tar.Writer) error {
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := tw.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(0, 0)}); err != nil {
			return err
		}
	}
	for _, d := range slices.Sorted(maps.Keys(l.blobs)) {
		if err := l.writeBlob(ctx, tw, d); err != nil {
			return errs.Wrap(err, "save blob %s", d)
		}
	}
	for _, f := range []struct {
		name string
		v    any
	}{{"index.json", l.index}, {"manifest.json", l.list}, {"oci-layout", map[string]string{"imageLayoutVersion": "1.0.0"}}} {
		b, err := json.Marshal(f.v)
		if err != nil {
			return err
		}
		if err := writeFile(tw, f.name, int64(len(b))); err != nil {
			return err
		}
		if _, err := tw.Write(b); err != nil {
			return err
		}
	}
	return tw.Close()
}

func writeFile(tw *tar.Writer, name string, size int64) error {
	return tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0)})
}

// writeBlob writes one blob and verifies it as it goes by.
func (l *layoutWriter) writeBlob(ctx context.Context, tw *tar.Writer, d brig.Digest) error {
	b := l.blobs[d]
	if err := writeFile(tw, blobPath(d), b.size); err != nil {
		return err
	}
	if b.open == nil {
		_, err := tw.Write(b.data)
		return err
	}
	r, err := b.open()
	if err != nil {
		return err
	}
	defer r.Close()
	h := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(tw, h), contextReader{ctx, r}, l.buf)
	if err != nil {
		return err
	}
	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); n != b.size || got != string(d) {
		return errs.New(errs.Invalid, "it has %d bytes and the digest %s, want %d", n, got, b.size)
	}
	return nil
}

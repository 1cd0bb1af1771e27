package runtime

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Media types of what is pushed (Docker's image manifest version 2 schema 2, and the OCI image specification).
const (
	typeManifest  = "application/vnd.docker.distribution.manifest.v2+json"
	typeConfig    = "application/vnd.docker.container.image.v1+json"
	typeLayerGzip = "application/vnd.docker.image.rootfs.diff.tar.gzip"

	typeOCIManifest  = "application/vnd.oci.image.manifest.v1+json"
	typeOCIConfig    = "application/vnd.oci.image.config.v1+json"
	typeOCILayerGzip = "application/vnd.oci.image.layer.v1.tar+gzip"
	typeOCILayerZstd = "application/vnd.oci.image.layer.v1.tar+zstd"
)

// manifest uploads the config, and returns the exact manifest that the image came with, or else makes one from its layers.
func (p *pushing) manifest(ctx context.Context, a *brig.ArchiveImage) (manifest []byte, mediaType string, err error) {
	if manifest = a.Manifest; manifest == nil {
		if manifest, mediaType, err = makeManifest(a.Config, p.blobs); err != nil {
			return nil, "", err
		}
	} else {
		var m struct{ MediaType string }
		if err := json.Unmarshal(manifest, &m); err != nil {
			return nil, "", errs.Wrap(err, "read the manifest")
		}
		if mediaType = m.MediaType; mediaType == "" { // only OCI's may leave it out
			mediaType = typeOCIManifest
		}
	}
	config := brig.Descriptor{Digest: brig.DigestOf(a.Config), Size: int64(len(a.Config))}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(a.Config)), nil }
	return manifest, mediaType, p.images.persist(ctx, func(string) {}, func() error {
		there, err := p.images.Pusher.HasBlob(ctx, p.repository, config.Digest, p.auth)
		if err == nil && !there {
			_, err = p.images.Pusher.PutBlob(ctx, p.repository, "", config, open, p.auth)
		}
		return err
	})
}

type manifestDescriptor struct {
	MediaType string      `json:"mediaType"`
	Size      int64       `json:"size"`
	Digest    brig.Digest `json:"digest"`
}

// makeManifest makes a schema2 manifest, or an OCI one if a layer is compressed with zstd, for which schema2 has no word.
func makeManifest(config []byte, layers []brig.Descriptor) (manifest []byte, mediaType string, err error) {
	mediaType, configType, gzipType := typeManifest, typeConfig, typeLayerGzip
	for _, x := range layers {
		if x.MediaType == typeOCILayerZstd {
			mediaType, configType, gzipType = typeOCIManifest, typeOCIConfig, typeOCILayerGzip
		}
	}
	m := struct {
		SchemaVersion int                  `json:"schemaVersion"`
		MediaType     string               `json:"mediaType"`
		Config        manifestDescriptor   `json:"config"`
		Layers        []manifestDescriptor `json:"layers"`
	}{2, mediaType, manifestDescriptor{configType, int64(len(config)), brig.DigestOf(config)}, []manifestDescriptor{}}
	for _, x := range layers {
		t := x.MediaType
		if t != typeOCILayerZstd {
			t = gzipType
		}
		m.Layers = append(m.Layers, manifestDescriptor{t, x.Size, x.Digest})
	}
	manifest, err = json.MarshalIndent(m, "", "   ")
	return manifest, mediaType, err
}

// compressed describes a layer's bytes as they are if they are compressed with gzip or zstd (RFC 1952 and 8878 have the magic numbers),
// and else spools them with gzip. The media type is one of those two.
func (p *pushing) compressed(ctx context.Context, x *brig.ArchiveLayer) (brig.Descriptor, func() (io.ReadCloser, error), error) {
	r, err := x.Open()
	if err != nil {
		return brig.Descriptor{}, nil, err
	}
	defer r.Close()
	magic := make([]byte, 4)
	n, err := io.ReadFull(r, magic)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return brig.Descriptor{}, nil, err
	}
	blob := x.Blob
	switch magic = magic[:n]; {
	case strings.HasPrefix(string(magic), "\x1f\x8b"):
		blob.MediaType = typeLayerGzip
		return blob, x.Open, nil
	case string(magic) == "\x28\xb5\x2f\xfd":
		blob.MediaType = typeOCILayerZstd
		return blob, x.Open, nil
	}
	name, err := p.spool(ctx, io.MultiReader(bytes.NewReader(magic), r))
	if err != nil {
		return brig.Descriptor{}, nil, err
	}
	open := func() (io.ReadCloser, error) { return os.Open(name) }
	blob = brig.Descriptor{MediaType: typeLayerGzip}
	blob.Digest, blob.Size, err = measure(ctx, open)
	return blob, open, err
}

// spool compresses a layer into a temporary file, which close removes. The same bytes give always the same file.
func (p *pushing) spool(ctx context.Context, r io.Reader) (name string, err error) {
	plain, err := p.images.Archives.Decompress(ctx, r, "")
	if err != nil {
		return "", err
	}
	defer plain.Close()
	f, err := os.CreateTemp(p.images.Spool, "push-*")
	if err != nil {
		return "", errs.Wrap(err, "spool a layer")
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	p.mu.Lock()
	p.cleanup = append(p.cleanup, func() error { return os.Remove(f.Name()) })
	p.mu.Unlock()
	z := gzip.NewWriter(f)
	if _, err := io.Copy(z, ctxReader{ctx, plain}); err != nil {
		return "", errs.Wrap(err, "compress a layer")
	}
	return f.Name(), errs.Wrap(z.Close(), "compress a layer")
}

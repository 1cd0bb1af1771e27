package images

import (
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"runtime"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Set is what the tests pull, by the name below the registry.
type Set map[string]remote.Taggable

// Build makes every image but Debian's, in a second or two.
//
//	busybox        one gzip layer, Cmd sh; also tagged :2
//	layers         whiteouts, an opaque directory and a replaced file over busybox
//	user           User, WorkingDir, Env, Labels, Volumes, ExposedPorts and StopSignal
//	entry          Entrypoint and Cmd
//	health         Healthcheck
//	onbuild        triggers of ONBUILD
//	zstd, plain    OCI manifests with a zstd layer, and with an uncompressed one
//	multi          an OCI index of amd64 and arm64; also tagged :2
func Build() (Set, error) {
	tree, err := busyboxTree()
	if err != nil {
		return nil, err
	}
	layer, err := gzipped(tree)
	if err != nil {
		return nil, err
	}
	base, err := image(false, runtime.GOARCH, v1.Config{Env: []string{path}, Cmd: []string{"sh"}}, layer)
	if err != nil {
		return nil, err
	}
	s := Set{"busybox:latest": base, "busybox:2": base}
	for _, add := range []func(Set, v1.Layer) error{addLayers, addConfigs, addIndex} {
		if err := add(s, layer); err != nil {
			return nil, err
		}
	}
	z, err := zstd(tree)
	if err != nil {
		return nil, err
	}
	for name, l := range map[string]v1.Layer{"zstd:latest": z, "plain:latest": plain(tree)} {
		if s[name], err = image(true, runtime.GOARCH, v1.Config{Env: []string{path}, Cmd: []string{"sh"}}, l); err != nil {
			return nil, fmt.Errorf("image %s: %w", name, err)
		}
	}
	return s, nil
}

// image puts layers and a config together; oci chooses the media types.
func image(oci bool, arch string, c v1.Config, layers ...v1.Layer) (v1.Image, error) {
	var img v1.Image = empty.Image
	if oci {
		img = mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
	}
	for i, l := range layers {
		var err error
		img, err = mutate.Append(img, mutate.Addendum{Layer: l, History: v1.History{
			CreatedBy: fmt.Sprintf("layer %d", i+1), Created: v1.Time{Time: stamp}}})
		if err != nil {
			return nil, fmt.Errorf("append layer %d: %w", i+1, err)
		}
	}
	f, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	f = f.DeepCopy()
	f.Config, f.Architecture, f.OS, f.Created = c, arch, "linux", v1.Time{Time: stamp}
	return mutate.ConfigFile(img, f)
}

// Unique is an image of one layer that no server has: a megabyte of random bytes.
func Unique() (v1.Image, error) {
	b := make([]byte, 1<<20)
	rand.Read(b) // never fails: crypto/rand
	tree, err := pack([]file{text("random", string(b))})
	if err != nil {
		return nil, err
	}
	l, err := gzipped(tree)
	if err != nil {
		return nil, err
	}
	return image(false, runtime.GOARCH, v1.Config{Env: []string{path}, Cmd: []string{"/random"}}, l)
}

// addLayers makes the image whose upper layers take away and replace what lower ones hold.
func addLayers(s Set, base v1.Layer) error {
	layers := []v1.Layer{base}
	for _, files := range [][]file{
		{dir("data", 0o755), text("data/a", "a1"), text("data/b", "b1"), dir("opaque", 0o755), text("opaque/x", "x"), dir("gone", 0o755), text("gone/deep", "d")},
		{text("data/b", "b2"), whiteout("data/.wh.a"), whiteout("opaque/.wh..wh..opq"), text("opaque/y", "y"), whiteout(".wh.gone")},
		{dir("gone", 0o700), text("gone/new", "n")},
	} {
		b, err := pack(files)
		if err != nil {
			return err
		}
		l, err := gzipped(b)
		if err != nil {
			return err
		}
		layers = append(layers, l)
	}
	img, err := image(false, runtime.GOARCH, v1.Config{Env: []string{path}, Cmd: []string{"sh"}}, layers...)
	s["layers:latest"] = img
	return err
}

// addConfigs makes the images that differ from busybox in their config.
func addConfigs(s Set, base v1.Layer) error {
	b, err := pack([]file{owned(dir("vol", 0o755), 1000, 1000), owned(text("vol/seed", "seed"), 1000, 1000),
		script("bin/onint", "trap 'echo got INT; exit 7' INT\necho ready\nwhile :; do sleep 0.1; done\n", 0o755)})
	if err != nil {
		return err
	}
	extra, err := gzipped(b)
	if err != nil {
		return err
	}
	for name, c := range map[string]v1.Config{
		"user:latest": {Env: []string{path, "FROM_IMAGE=yes"}, User: "app", WorkingDir: "/home/app", Cmd: []string{"id"}, StopSignal: "SIGINT",
			Labels: map[string]string{"color": "green"}, Volumes: map[string]struct{}{"/vol": {}}, ExposedPorts: map[string]struct{}{"80/tcp": {}}},
		"onbuild:latest": {Env: []string{path}, Cmd: []string{"sh"}, WorkingDir: "/app", OnBuild: []string{"COPY file /app/file", "RUN cat file >made", "ENV BUILT=on"}},
		"entry:latest":   {Env: []string{path}, Entrypoint: []string{"/bin/echo", "entry"}, Cmd: []string{"cmd"}},
		"health:latest": {Env: []string{path}, Cmd: []string{"sleep", "600"},
			Healthcheck: &v1.HealthConfig{Test: []string{"CMD-SHELL", "test -f /tmp/ok"}, Interval: time.Second, Timeout: 5 * time.Second, Retries: 2}},
	} {
		if s[name], err = image(false, runtime.GOARCH, c, base, extra); err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
	}
	return nil
}

// addIndex makes an OCI index whose images say their platform in $FOR.
func addIndex(s Set, base v1.Layer) error {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"amd64", "arm64"} {
		img, err := image(true, arch, v1.Config{Env: []string{path, "FOR=" + arch}, Cmd: []string{"sh"}}, base)
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}}).(v1.ImageIndex)
	}
	s["multi:latest"], s["multi:2"] = index, index
	return nil
}

// Push uploads the set to the registry at host ("127.0.0.1:5000"), by plain http. auth may be nil.
func (s Set) Push(ctx context.Context, host string, auth authn.Authenticator) error {
	if auth == nil {
		auth = authn.Anonymous
	}
	for tag, t := range s {
		ref, err := name.ParseReference(host+"/"+tag, name.Insecure)
		if err != nil {
			return fmt.Errorf("push %s: %w", tag, err)
		}
		opts := []remote.Option{remote.WithContext(ctx), remote.WithAuth(auth), remote.WithTransport(http.DefaultTransport)}
		switch t := t.(type) {
		case v1.ImageIndex:
			err = remote.WriteIndex(ref, t, opts...)
		case v1.Image:
			err = remote.Write(ref, t, opts...)
		}
		if err != nil {
			return fmt.Errorf("push %s to %s: %w", tag, host, err)
		}
	}
	return nil
}

// Heavy is an image of busybox's tree, a layer with one file "heavy" of size bytes that don't compress, and three small layers. sum is the
// SHA-256 of the file, in hex; large is the digest of its layer, and last that of the top one. The seed chooses the bytes.
func Heavy(size int, seed uint64) (img v1.Image, sum string, large, last v1.Hash, err error) {
	tree, err := busyboxTree()
	if err != nil {
		return nil, "", large, last, err
	}
	noise := mathrand.NewChaCha8([32]byte{0: byte(seed), 1: byte(seed >> 8), 2: byte(seed >> 16)})
	body := make([]byte, size)
	noise.Read(body)
	sum = fmt.Sprintf("%x", sha256.Sum256(body))
	trees := [][]byte{tree}
	for n, b := range [][]byte{body, body[:100_000], body[:1000], body[:10_000]} {
		b, err := pack([]file{text([]string{"heavy", "one", "two", "three"}[n], string(b))})
		if err != nil {
			return nil, "", large, last, err
		}
		trees = append(trees, b)
	}
	var layers []v1.Layer
	for _, b := range trees {
		l, err := tarball.LayerFromOpener(opener(b), tarball.WithMediaType(types.DockerLayer), tarball.WithCompressionLevel(gzip.NoCompression))
		if err != nil {
			return nil, "", large, last, err
		}
		layers = append(layers, l)
	}
	if large, err = layers[1].Digest(); err == nil {
		last, err = layers[4].Digest()
	}
	if err != nil {
		return nil, "", large, last, err
	}
	img, err = image(false, "amd64", v1.Config{Cmd: []string{"sh"}, Env: []string{path}}, layers...)
	return img, sum, large, last, err
}

package convert

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/host"
)

// noise is n bytes that hardly compress, always the same.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func gz(parts ...[]byte) []byte {
	var out bytes.Buffer
	for _, p := range parts {
		w := gzip.NewWriter(&out)
		w.Write(p)
		w.Close()
	}
	return out.Bytes()
}

func zst(t testing.TB, p []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(p, nil)
}

// run pipes p through a program.
func run(t testing.TB, p []byte, argv ...string) []byte {
	t.Helper()
	out, err := host.Command{Argv: argv, Stdin: bytes.NewReader(p)}.Output(t.Context())
	if err != nil {
		t.Fatalf("%v (make deps installs it)", err)
	}
	return out
}

func decompress(t *testing.T, c *Converter, r io.Reader, mediaType string) ([]byte, error) {
	t.Helper()
	d, err := c.Decompress(t.Context(), r, mediaType)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(d)
	return b, errors.Join(err, d.Close())
}

func TestDecompress(t *testing.T) {
	small, large := []byte("a few bytes"), noise(1<<20)
	skippable := append([]byte{0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9}, zst(t, small)...)
	tests := []struct {
		name, mediaType string
		in, want        []byte
	}{
		{"none", "application/vnd.oci.image.layer.v1.tar", small, small},
		{"empty", "", nil, nil},
		{"one byte", "", []byte{0x1f}, []byte{0x1f}},
		{"gzip", "application/vnd.oci.image.layer.v1.tar+gzip", gz(small), small},
		{"large gzip", "", gz(large), large},
		{"gzip members", "", gz(small, nil, small), append(small, small...)},
		{"large gzip members", "", gz(large, nil, small, large), bytes.Join([][]byte{large, small, large}, nil)},
		{"zstd", "application/vnd.oci.image.layer.v1.tar+zstd", zst(t, large), large},
		{"zstd frames", "", append(zst(t, small), zst(t, small)...), append(small, small...)},
		{"zstd after a skippable frame", "", skippable, small},
		{"zstd that claims to be gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip", zst(t, small), small},
		{"none that claims to be gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip", small, small},
		{"xz", "", run(t, large, "xz", "-0"), large},
		{"bzip2", "", run(t, small, "bzip2"), small},
	}
	for name, c := range map[string]*Converter{"with programs": New(), "library": {xz: New().xz}} {
		for _, tt := range tests {
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				got, err := decompress(t, c, bytes.NewReader(tt.in), tt.mediaType)
				if err != nil || !bytes.Equal(got, tt.want) {
					t.Errorf("%d bytes, want %d: %v", len(got), len(tt.want), err)
				}
			})
		}
	}
}

func TestDecompressBroken(t *testing.T) {
	large := noise(1 << 20)
	rot := func(b []byte) []byte { b = bytes.Clone(b); b[len(b)-6] ^= 0xff; return b } // in gzip's checksum
	tests := []struct {
		name string
		in   []byte
	}{
		{"truncated gzip", gz(large[:1000])[:900]},
		{"truncated large gzip", gz(large)[:900_000]},
		{"gzip with a wrong checksum", rot(gz(large[:1000]))},
		{"large gzip with a wrong checksum", rot(gz(large))},
		{"truncated zstd", zst(t, large)[:900_000]},
		{"truncated xz", run(t, large, "xz", "-0")[:900_000]},
		{"gzip header alone", []byte{0x1f, 0x8b, 8}},
	}
	for name, c := range map[string]*Converter{"with programs": New(), "library": {xz: New().xz}} {
		for _, tt := range tests {
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				if _, err := decompress(t, c, bytes.NewReader(tt.in), ""); !errs.Is(err, errs.Invalid) {
					t.Errorf("%v (%v)", err, errs.KindOf(err))
				}
			})
		}
	}
	if _, err := New().Decompress(t.Context(), bytes.NewReader(nil), "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"); !errs.Is(err, errs.NotImplemented) {
		t.Errorf("encrypted: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestDecompressSourceFails checks that a broken download is not taken for a broken archive.
func TestDecompressSourceFails(t *testing.T) {
	cut := errs.New(errs.Unavailable, "cable cut")
	large := noise(1 << 20)
	for name, in := range map[string][]byte{"gzip": gz(large[:5000])[:4000], "large gzip": gz(large)[:500_000], "zstd": zst(t, large)[:500_000], "none": large} {
		_, err := decompress(t, New(), io.MultiReader(bytes.NewReader(in), failing{cut}), "")
		if !errors.Is(err, cut) || !errs.Is(err, errs.Unavailable) {
			t.Errorf("%s: %v (%v)", name, err, errs.KindOf(err))
		}
	}
}

// TestDecompressCloseEarly closes with nearly everything unread; the subprocess must go away with it.
func TestDecompressCloseEarly(t *testing.T) {
	in := gz(noise(8 << 20))
	d, err := New().Decompress(t.Context(), bytes.NewReader(in), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(d, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestDecompressCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	pr, pw := io.Pipe()
	defer pw.Close()
	go pw.Write(gz(noise(1 << 20))[:600_000])
	d, err := New().Decompress(ctx, pr, "")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	context.AfterFunc(ctx, func() { pr.CloseWithError(ctx.Err()) }) // as the contract asks of the source
	cancel()                                                        // igzip may have given nothing yet: it fills its buffer first
	if _, err := io.Copy(io.Discard, d); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(dir+"/plain", nil, 0o644)
	os.WriteFile(dir+"/run", nil, 0o755)
	t.Setenv("PATH", "relative:"+dir)
	if find("run") != dir+"/run" || find("plain") != "" || find("none") != "" {
		t.Error(find("run"), find("plain"), find("none"))
	}
}

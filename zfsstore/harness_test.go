package zfsstore

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/host"
)

// The seams as runtime declares them; sibling packages don't import each other, so the proof stands on copies.
type (
	rootFS interface {
		Prepare(ctx context.Context, id brig.RID, parent brig.Digest, size int64) error
		Mount(ctx context.Context, id brig.RID) (path string, err error)
		Unmount(ctx context.Context, id brig.RID) error
		Diff(ctx context.Context, id brig.RID) ([]brig.Change, error)
		Remove(ctx context.Context, id brig.RID) error
	}
	layers interface {
		Has(ctx context.Context, chain brig.Digest) (bool, error)
		Apply(ctx context.Context, parent, chain, diff brig.Digest, tar io.Reader, below func(context.Context) error) (brig.Applied, error)
		Drop(ctx context.Context, chain brig.Digest) error
		Sweep(ctx context.Context, live brig.Live) error
		Driver() (name string, status [][2]string)
	}
	volumeData interface {
		MakeVolume(ctx context.Context, id brig.RID, size int64) (path string, err error)
		MakeMountPoint(ctx context.Context, id brig.RID) (path string, err error)
		MountVolume(ctx context.Context, id brig.RID, m brig.VolumeMount) error
		UnmountVolume(ctx context.Context, id brig.RID) error
		RemoveVolume(ctx context.Context, id brig.RID) error
	}
)

var (
	_ rootFS     = (*Store)(nil)
	_ layers     = (*Store)(nil)
	_ volumeData = (*Store)(nil)
)

// bench is one store under test; reopen closes it and opens it again, as after a restart.
type bench struct {
	*Store
	t      testing.TB
	cfg    Config
	legacy bool
}

func (b *bench) reopen() {
	b.t.Helper()
	if b.Store != nil {
		if err := b.Close(); err != nil {
			b.t.Fatal(err)
		}
	}
	s, err := Open(context.Background(), b.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.Store = s
	if b.legacy {
		setLegacy(s)
	}
}

// each runs a test on every driver that this host has.
func each(t *testing.T, test func(t *testing.T, b *bench)) {
	drivers := []string{"copy"}
	if hasOverlay {
		drivers = append(drivers, "overlay", overlayOld)
	}
	if zfsPool() != "" {
		drivers = append(drivers, "zfs")
	}
	on(t, test, drivers...)
}

// overlayOld is the overlay driver as on kernels that take all lower layers with mount(2).
const overlayOld = "overlay by mount(2)"

// on runs a test on a new store of each driver.
func on(t *testing.T, test func(t *testing.T, b *bench), drivers ...string) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts, owners and devices")
	}
	for _, name := range drivers {
		t.Run(name, func(t *testing.T) {
			driver, _, _ := strings.Cut(name, " ")
			cfg := Config{Root: filepath.Join(t.TempDir(), "store"), Driver: driver}
			if driver == "zfs" {
				cfg.ZFSParent = zfsPool() + "/brig-test-" + string(brig.NewRID())
			}
			b := &bench{t: t, cfg: cfg, legacy: name == overlayOld}
			t.Cleanup(b.clean)
			b.reopen()
			test(t, b)
		})
	}
}

// zfsPool is the dataset beneath which tests make theirs; "" if the host has none for them.
func zfsPool() string { return os.Getenv("BRIG_TEST_ZPOOL") }

func (b *bench) clean() {
	if b.Store == nil {
		return
	}
	if err := b.Sweep(context.Background(), brig.Live{}); err != nil {
		b.t.Errorf("sweep all: %v", err)
	}
	for _, d := range []string{"l", "c", "v", "w", "mnt"} {
		if list, _ := os.ReadDir(filepath.Join(b.cfg.Root, d)); len(list) > 0 {
			b.t.Errorf("a sweep of everything leaves %s/%s", d, list[0].Name())
		}
	}
	if err := b.Close(); err != nil {
		b.t.Error(err)
	}
	if b.cfg.ZFSParent != "" {
		if _, err := host.Run(context.Background(), "zfs", "destroy", "-r", b.cfg.ZFSParent); err != nil {
			b.t.Error(err)
		}
	}
	if m, _ := os.ReadFile("/proc/self/mountinfo"); bytes.Contains(m, []byte(b.cfg.Root)) {
		b.t.Error("mounts are left")
	}
}

var epoch = time.Unix(1_600_000_000, 0)

// tarball makes a layer: "d name", "f name content", "l name target", "h name target"; a name like .wh.x is a whiteout.
func tarball(entries ...string) []byte {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, e := range entries {
		kind, rest, _ := strings.Cut(e, " ")
		name, arg, _ := strings.Cut(rest, " ")
		h := &tar.Header{Name: name, Mode: 0o644, ModTime: epoch, Format: tar.FormatPAX, Typeflag: tar.TypeReg}
		switch kind {
		case "d":
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		case "f":
			h.Size = int64(len(arg))
		case "l":
			h.Typeflag, h.Linkname = tar.TypeSymlink, arg
		case "h":
			h.Typeflag, h.Linkname = tar.TypeLink, arg
		case "x":
			h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": arg}
		}
		tw.WriteHeader(h)
		if h.Size > 0 {
			io.WriteString(tw, arg)
		}
	}
	tw.Close()
	return b.Bytes()
}

// add applies a layer and returns its chain.
func (b *bench) add(parent brig.Digest, entries ...string) brig.Digest {
	b.t.Helper()
	data := tarball(entries...)
	diff := brig.DigestOf(data)
	chain := brig.ChainID(parent, diff)
	if _, err := b.Apply(context.Background(), parent, chain, diff, bytes.NewReader(data), nil); err != nil {
		b.t.Fatal(err)
	}
	return chain
}

// run makes a container of chain and mounts it.
func (b *bench) run(chain brig.Digest) (brig.RID, string) {
	b.t.Helper()
	id := brig.NewRID()
	if err := b.Prepare(context.Background(), id, chain, 0); err != nil {
		b.t.Fatal(err)
	}
	p, err := b.Mount(context.Background(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return id, p
}

func (b *bench) check(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) kind(what string, err error, want errs.Kind) {
	b.t.Helper()
	if !errs.Is(err, want) {
		b.t.Errorf("%s: %v, want the kind %v", what, err, want)
	}
}

// show lists a tree: names, contents, targets.
func show(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		switch {
		case d.IsDir():
			rel += "/"
		case d.Type().IsRegular():
			b, _ := os.ReadFile(p)
			rel += "=" + string(b)
		case d.Type()&fs.ModeSymlink != 0:
			l, _ := os.Readlink(p)
			rel += "->" + l
		default:
			rel += " " + d.Type().String()
		}
		out = append(out, rel)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, " ")
}

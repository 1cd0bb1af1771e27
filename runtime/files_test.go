package runtime

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// plant makes files: "dir/" is a directory, "x -> y" a link, others hold their own name.
func plant(t *testing.T, root string, names ...string) {
	t.Helper()
	for _, n := range names {
		name, link, isLink := strings.Cut(n, " -> ")
		p := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		switch {
		case err != nil:
		case isLink:
			err = os.Symlink(link, p)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(p, 0o755)
		default:
			err = os.WriteFile(p, []byte(name), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestResolve(t *testing.T) {
	root, vol, outside := t.TempDir(), t.TempDir(), t.TempDir()
	plant(t, outside, "secret")
	plant(t, root, "etc/passwd", "abs -> /etc", "rel -> etc", "up -> ../../../../etc", "out -> "+outside, "loop -> loop", "data/hidden", "tovol -> /data/f", "deep/er -> ../abs/passwd")
	plant(t, vol, "f", "back -> /etc/passwd", "climb -> ../../etc/passwd")
	places := []place{{at: "/", host: root}, {at: "/data", host: vol}, {at: "/etc/one", host: filepath.Join(vol, "f")}, {at: "/shm"}}
	for _, c := range []struct {
		path   string
		follow bool
		want   string // base and rel
	}{
		{"/", false, root},
		{"etc/passwd", false, root + "/etc/passwd"},
		{"/abs/passwd", false, root + "/etc/passwd"},
		{"/rel/../rel/passwd", false, root + "/etc/passwd"},
		{"/../../etc/passwd", false, root + "/etc/passwd"},
		{"/up/passwd", false, root + "/etc/passwd"},
		{"/abs", false, root + "/abs"},
		{"/abs", true, root + "/etc"},
		{"/deep/er", true, root + "/etc/passwd"},
		{"/data", false, vol},
		{"/data/f", false, vol + "/f"},
		{"/tovol", true, vol + "/f"},
		{"/data/back", true, root + "/etc/passwd"},
		{"/data/climb", true, root + "/etc/passwd"},
		{"/etc/one", false, vol + "/f"},
		{"/data/hidden", false, ""},
		{"/out/secret", false, "missing parent"},
		{"/out", true, "missing parent"},
		{"/new", true, ""},
		{"/no/new", true, "missing parent"},
	} {
		s, err := resolve(places, c.path, c.follow)
		if c.want == "missing parent" {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %+v, %v", c.path, s, err)
			}
			continue
		}
		if err != nil || s.exists != (c.want != "") || (s.exists && s.path() != c.want) {
			t.Errorf("%s: %s (there: %v), %v; want %q", c.path, s.path(), s.exists, err, c.want)
		}
	}
	for path, kind := range map[string]errs.Kind{"/loop": errs.Invalid, "/etc/passwd/x": errs.Invalid, "/etc/passwd/": errs.Invalid, "/shm/x": errs.NotImplemented} {
		if _, err := resolve(places, path, true); !errs.Is(err, kind) {
			t.Errorf("%s: %v, want %v", path, err, kind)
		}
	}
}

// listTar returns the regular files of an archive.
func listTar(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	out := map[string]string{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			out[h.Name] = string(b)
		}
	}
}

func makeTar(t *testing.T, names ...string) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, n := range names {
		if err := tw.WriteHeader(&tar.Header{Name: n, Mode: 0o644, Size: int64(len(n)), Typeflag: tar.TypeReg, Uid: os.Getuid(), Gid: os.Getgid()}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestArchives(t *testing.T) {
	for _, running := range []bool{false, true} {
		w := newWorld(t)
		w.setup = func(root string) {
			plant(t, root, "etc/passwd", "dir/a", "dir/sub/b", "dir/vol/shadowed", "link -> dir")
		}
		b := w.boot(0)
		s := spec("sleep")
		s.Mounts = []brig.Mount{{Type: brig.MountVolume, Source: "vol", Target: "/dir/vol", NoCopy: true}, {Type: brig.MountVolume, Source: "ro", Target: "/ro", ReadOnly: true}}
		b.make(t, "box", s)
		if running {
			if err := b.Containers.Start(t.Context(), "box"); err != nil {
				t.Fatal(err)
			}
		}
		var zipped bytes.Buffer
		z := gzip.NewWriter(&zipped)
		z.Write(makeTar(t, "zipped").Bytes())
		z.Close()
		for path, r := range map[string]io.Reader{"/dir/vol": makeTar(t, "v"), "/link": &zipped} {
			if err := b.PutArchive(t.Context(), "box", path, true, false, r); err != nil {
				t.Fatal(err)
			}
		}
		wantErr(t, "put to a read-only volume", b.PutArchive(t.Context(), "box", "/ro", false, false, makeTar(t, "x")), errs.Forbidden, "marked read-only")
		wantErr(t, "put to a file", b.PutArchive(t.Context(), "box", "/etc/passwd", false, false, makeTar(t, "x")), errs.Invalid, "not a directory")
		wantErr(t, "put to nowhere", b.PutArchive(t.Context(), "box", "/no", false, false, makeTar(t, "x")), errs.NotFound, "Could not find the file /no in container box")
		wantErr(t, "put that climbs", b.PutArchive(t.Context(), "box", "/dir", false, false, makeTar(t, "../../../x")), errs.Invalid, "")

		for path, want := range map[string][]string{
			"/dir":        {"dir/a", "dir/sub/b", "dir/vol/v", "dir/zipped"},
			"/dir/.":      {"./a", "./sub/b", "./vol/v", "./zipped"},
			"/link/sub":   {"sub/b"},
			"/dir/vol/v":  {"v"},
			"/etc/passwd": {"passwd"},
		} {
			r, st, err := b.GetArchive(t.Context(), "box", path)
			if err != nil {
				t.Fatal(err)
			}
			got := slices.Sorted(maps.Keys(listTar(t, r)))
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if !slices.Equal(got, want) || st.Name != filepath.Base(path) && path != "/dir/." {
				t.Errorf("running %v, %s: %q named %q, want %q", running, path, got, st.Name, want)
			}
		}
		st, err := b.StatPath(t.Context(), "box", "/link")
		if err != nil || st.LinkTarget != "/dir" || fs.FileMode(st.Mode)&fs.ModeSymlink == 0 {
			t.Errorf("stat of a link: %+v, %v", st, err)
		}
		r, err := b.Export(t.Context(), "box")
		if err != nil {
			t.Fatal(err)
		}
		if got := listTar(t, r); got["etc/passwd"] == "" || got["dir/vol/v"] != "" {
			t.Errorf("export: %v", got)
		}
		r.Close()
		r, _, err = b.GetArchive(t.Context(), "box", "/") // a client that goes away
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		b.checkNothingLeft(t)
	}
}

func TestReadOnlyRoot(t *testing.T) {
	b := newWorld(t).boot(0)
	s := spec("sleep")
	s.ReadOnly = true
	b.make(t, "box", s)
	wantErr(t, "put", b.PutArchive(t.Context(), "box", "/", false, false, makeTar(t, "x")), errs.Forbidden, "container rootfs is marked read-only")
}

func TestVolumes(t *testing.T) {
	w := newWorld(t)
	w.setup = func(root string) { plant(t, root, "data/a", "data/sub/b", "file") }
	b := w.boot(0)
	v, err := b.VolumeCreate(t.Context(), brig.VolumeSpec{Name: "vol", Labels: map[string]string{"k": "v"}})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := b.VolumeCreate(t.Context(), brig.VolumeSpec{Name: "vol"}); err != nil || again.Dataset != v.Dataset {
		t.Errorf("the same volume again: %+v, %v", again, err)
	}
	for _, c := range []struct {
		spec brig.VolumeSpec
		kind errs.Kind
		text string
	}{
		{brig.VolumeSpec{Name: "x1", Driver: "nfs"}, errs.NotFound, `plugin "nfs" not found`},
		{brig.VolumeSpec{Name: "a/b"}, errs.Invalid, "includes invalid characters"},
		{brig.VolumeSpec{Name: "x1", Options: map[string]string{"type": "nfs"}}, errs.Invalid, `missing required option: "device"`},
	} {
		_, err := b.VolumeCreate(t.Context(), c.spec)
		wantErr(t, c.text, err, c.kind, c.text)
	}
	s := spec("sleep")
	s.Volumes = []string{"/data", "/anon"}
	s.Mounts = []brig.Mount{{Type: brig.MountVolume, Source: "vol", Target: "/data"}, {Type: brig.MountBind, Source: w.root + "/made", Target: "/bind", CreateSrc: true}}
	id := b.run(t, "user", s)
	if got, err := os.ReadFile(filepath.Join(v.Mountpoint, "sub/b")); err != nil || string(got) != "data/sub/b" {
		t.Errorf("a new volume lacks the image's content: %v", err)
	}
	if _, err := os.Stat(w.root + "/made"); err != nil {
		t.Error(err)
	}
	if d := b.get(t, "user"); len(d.Mounts) != 3 || d.Mounts[0].Target != "/anon" || !d.Mounts[0].Anonymous || d.Mounts[2].Name != "vol" {
		t.Errorf("mounts: %+v", d.Mounts)
	}
	wantErr(t, "rm of a volume in use", b.VolumeRemove(t.Context(), "vol", true), errs.Conflict, "remove vol: volume is in use - ["+string(id)+"]")
	heir := spec("sleep")
	heir.VolumesFrom = []string{"user:ro"}
	b.make(t, "heir", heir)
	if d := b.get(t, "heir"); len(d.Mounts) != 3 || d.Mounts[2].RW || d.Mounts[2].Name != "vol" {
		t.Errorf("volumes-from: %+v", d.Mounts)
	}
	lost := spec("sleep")
	lost.VolumesFrom = []string{"nosuch"}
	_, _, err = b.Create(t.Context(), brig.CreateRequest{Spec: lost})
	wantErr(t, "volumes from none", err, errs.Invalid, "No such container: nosuch")
	for _, c := range []struct {
		mt   brig.Mount
		text string
	}{
		{brig.Mount{Type: brig.MountBind, Source: w.root + "/none", Target: "/x"}, `invalid mount config for type "bind": bind source path does not exist: ` + w.root + "/none"},
		{brig.Mount{Type: brig.MountVolume, Target: "/file"}, "file exists /file"},
	} {
		bad := spec("sleep")
		bad.Mounts = []brig.Mount{c.mt}
		_, _, err := b.Create(t.Context(), brig.CreateRequest{Spec: bad})
		wantErr(t, c.text, err, errs.Invalid, c.text)
	}
	for i, name := range []string{"user", "heir"} { // the anonymous volume goes with the last that has it
		if err := b.Containers.Remove(t.Context(), name, brig.RemoveOptions{Force: true, Volumes: true}); err != nil {
			t.Fatal(err)
		}
		if list, _ := b.VolumeList(t.Context()); len(list) != 2-i {
			t.Errorf("after rm -v %s: %d volumes", name, len(list))
		}
	}
	if err := b.VolumeRemove(t.Context(), "vol", false); err != nil {
		t.Error(err)
	}
	wantErr(t, "rm of no volume", b.VolumeRemove(t.Context(), "vol", false), errs.NotFound, "get vol: no such volume")
	if err := b.VolumeRemove(t.Context(), "vol", true); err != nil {
		t.Error(err)
	}
	b.checkNothingLeft(t)
}

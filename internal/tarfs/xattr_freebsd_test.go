package tarfs

import (
	"archive/tar"
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// caps is cap_net_raw+ep.
const caps = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// kept extracts an empty directory d and a file f that both have the attributes given, and returns what f and d keep of them.
func kept(t *testing.T, attrs map[string]string) (dir string, f, d map[string]string, st Stats) {
	t.Helper()
	records := map[string]string{}
	for k, v := range attrs {
		records[schily+k] = v
	}
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range []*tar.Header{
		{Name: "f", Typeflag: tar.TypeReg, Size: 4, Mode: 0o600, Uid: 3, Gid: 4, ModTime: epoch, PAXRecords: records},
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o700, ModTime: epoch, PAXRecords: records},
	} {
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		tw.Write(make([]byte, h.Size))
	}
	tw.Close()
	dir = t.TempDir()
	st, err := extract(t, dir, b.Bytes(), Options{Whiteouts: Apply})
	if err != nil {
		t.Fatal(err)
	}
	return dir, has(t, filepath.Join(dir, "f")), has(t, filepath.Join(dir, "d")), st
}

func has(t *testing.T, path string) map[string]string {
	t.Helper()
	m, err := xattrs(nodeOf(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestNamespaces(t *testing.T) {
	needRoot(t)
	long, big := "user."+strings.Repeat("n", 255), strings.Repeat("v", 20_000)
	users := map[string]string{"user.a": "1", "user.b.c": "", "user." + "\xff\n": "\x00\x01", long: "long", "user.big": big}
	for i := range 60 { // the list of names needs more than the first buffer
		users["user.many"+strings.Repeat("y", i)] = "m"
	}
	all := maps.Clone(users)
	for _, k := range []string{"security.other", "trusted.x", "system.posix_acl_access", "system.brig.capability", "system.x", "odd", "user.overlay.opaque"} {
		all[k] = "x"
	}
	dir, f, d, st := kept(t, all)
	if !maps.Equal(f, users) || !maps.Equal(d, users) {
		t.Errorf("a file has %q, a directory %q", slices.Sorted(maps.Keys(f)), slices.Sorted(maps.Keys(d)))
	}
	if st.Unkept != 2*6 { // the mark of overlayfs doesn't count
		t.Errorf("%d attributes couldn't be kept", st.Unkept)
	}
	for _, name := range []string{"f", "d"} {
		list, err := listNamespace(nodeOf(t, filepath.Join(dir, name)).fd, unix.EXTATTR_NAMESPACE_SYSTEM, "")
		if err != nil || len(list) > 0 {
			t.Errorf("the archive put %q into the system's own namespace, %v", list, err)
		}
	}
	if got, err := unix.Fgetxattr(nodeOf(t, filepath.Join(dir, "f")).fd, "user.a", make([]byte, 8)); got != 1 || err != nil {
		t.Errorf("extattr(2) finds %d bytes of user.a, %v", got, err)
	}
}

// TestSlashes: UFS keeps attributes of these names, ZFS doesn't. An archive that has them is extracted on both.
func TestSlashes(t *testing.T) {
	needRoot(t)
	for _, name := range []string{"user.a/b", "user.freebsd:x"} {
		_, f, d, st := kept(t, map[string]string{name: "1"})
		if int64(len(f)+len(d))+st.Unkept != 2 || len(f) != len(d) {
			t.Errorf("a file has %q, a directory %q, %d couldn't be kept", f, d, st.Unkept)
		}
	}
}

// TestCapabilities: they are kept until a file's content or owner changes, as on Linux, and go wherever the file goes.
func TestCapabilities(t *testing.T) {
	needRoot(t)
	want := map[string]string{capability: caps, "user.a": "1"}
	dir, f, d, st := kept(t, want)
	if !maps.Equal(f, want) || len(d) != 1 || st.Unkept != 1 {
		t.Errorf("a file has %q, a directory %q, %d couldn't be kept", f, d, st.Unkept)
	}
	away := t.TempDir()
	if err := Copy(t.Context(), away, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := extract(t, filepath.Join(away, "d"), packed(t, dir, PackOptions{}), Options{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"f", "d/f"} {
		if got := has(t, filepath.Join(away, name)); !maps.Equal(got, want) {
			t.Errorf("%s has %q", name, got)
		}
	}
	for name, change := range map[string]struct {
		f    func(path string) error
		lost bool
	}{
		"mode":          {f: func(p string) error { return os.Chmod(p, 0o755) }},
		"time":          {f: func(p string) error { return os.Chtimes(p, epoch, epoch) }},
		"name":          {f: func(p string) error { return os.Rename(p, p+"-") }},
		"owner":         {f: func(p string) error { return os.Chown(p, 5, 4) }, lost: true},
		"group":         {f: func(p string) error { return os.Chown(p, 3, 5) }, lost: true},
		"size":          {f: func(p string) error { return os.Truncate(p, 5) }, lost: true},
		"content":       {f: func(p string) error { return os.WriteFile(p, []byte("evil"), 0) }, lost: true},
		"other's value": {f: func(p string) error { return unix.Setxattr(p, sealed, []byte(strings.Repeat("s", 32)+caps), 0) }, lost: true},
		"no value":      {f: func(p string) error { return unix.Setxattr(p, sealed, nil, 0) }, lost: true},
		"user's own":    {f: func(p string) error { return unix.Setxattr(p, "user.brig.capability", []byte(caps), 0) }},
	} {
		dir, _, _, _ := kept(t, want)
		p := filepath.Join(dir, "f")
		if err := change.f(p); err != nil {
			t.Fatal(err)
		}
		if name == "name" {
			p += "-"
		}
		// Twice, for reading must not change what is read next.
		for range 2 {
			if _, there := has(t, p)[capability]; there == change.lost {
				t.Errorf("%s changed: the file's capabilities are there: %v", name, there)
			}
		}
	}
}

// TestNoAttributes: a file system that keeps none is no obstacle.
func TestNoAttributes(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	defer unix.Unmount(dir, unix.MNT_FORCE)
	b := one(t, tar.Header{Name: "x", Mode: 0o600, PAXRecords: map[string]string{schily + "user.a": "1", schily + capability: caps}}, "content")
	st, err := extract(t, dir, b, Options{Whiteouts: Apply})
	if err != nil || st.Unkept != 2 {
		t.Errorf("%d couldn't be kept, %v", st.Unkept, err)
	}
	if list := entries(t, packed(t, dir, PackOptions{})); len(list) != 1 {
		t.Errorf("packed: %q", list)
	}
}

package zfsstore

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"golang.org/x/sys/unix"
)

func TestStackedLayers(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		base := b.add("", "d etc", "f etc/a 1", "f etc/b 2", "d d", "f d/x 1", "d usr/lib", "l lib usr/lib", "f gone 1")
		for _, c := range []struct {
			name   string
			layers [][]string
			want   string
		}{
			{"base", nil, "d/ d/x=1 etc/ etc/a=1 etc/b=2 gone=1 lib->usr/lib usr/ usr/lib/"},
			{"whiteouts", [][]string{{"f .wh.gone", "f etc/.wh.a"}}, "d/ d/x=1 etc/ etc/b=2 lib->usr/lib usr/ usr/lib/"},
			{"opaque", [][]string{{"d d", "f d/.wh..wh..opq", "f d/y 2"}}, "d/ d/y=2 etc/ etc/a=1 etc/b=2 gone=1 lib->usr/lib usr/ usr/lib/"},
			{"directory replaced by a file and back", [][]string{{"f d 9"}, {"d d", "f d/z 3"}}, "d/ d/z=3 etc/ etc/a=1 etc/b=2 gone=1 lib->usr/lib usr/ usr/lib/"},
			{"whiteout and again", [][]string{{"f .wh.d"}, {"f d/new 1"}}, "d/ d/new=1 etc/ etc/a=1 etc/b=2 gone=1 lib->usr/lib usr/ usr/lib/"},
			{"through a symlink", [][]string{{"f lib/so 1"}}, "d/ d/x=1 etc/ etc/a=1 etc/b=2 gone=1 lib->usr/lib usr/ usr/lib/ usr/lib/so=1"},
			{"hard link to a lower file", [][]string{{"h g2 gone"}, {"f .wh.gone"}}, "d/ d/x=1 etc/ etc/a=1 etc/b=2 g2=1 lib->usr/lib usr/ usr/lib/"},
			{"opaque root", [][]string{{"f .wh..wh..opq", "f only 1"}}, "only=1"},
			{"nothing", [][]string{{}}, "d/ d/x=1 etc/ etc/a=1 etc/b=2 gone=1 lib->usr/lib usr/ usr/lib/"},
		} {
			chain := base
			for _, l := range c.layers {
				chain = b.add(chain, l...)
			}
			id, p := b.run(chain)
			if got := show(t, p); got != c.want {
				t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
			}
			if ch, err := b.Diff(t.Context(), id); err != nil || len(ch) != 0 {
				t.Errorf("%s: a fresh container differs: %v, %v", c.name, ch, err)
			}
			b.check(b.Remove(t.Context(), id))
		}
	})
}

func TestAttributesThroughTheStack(t *testing.T) {
	const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	each(t, func(t *testing.T, b *bench) {
		chain := b.add(b.add("", "d bin", "f bin/a 1", "h bin/b bin/a", "x bin/ping "+capability), "f bin/c 1")
		_, p := b.run(chain)
		var one, two, dir unix.Stat_t
		b.check(unix.Lstat(p+"/bin/a", &one))
		b.check(unix.Lstat(p+"/bin/b", &two))
		b.check(unix.Lstat(p+"/bin", &dir))
		if one.Ino != two.Ino || one.Nlink != 2 {
			t.Error("the hard link got lost")
		}
		if dir.Mtim.Sec != epoch.Unix() {
			t.Errorf("an implied directory has the time %d, not that of the lower one", dir.Mtim.Sec)
		}
		if got := capabilityOf(t, p, "bin/ping"); got != capability {
			t.Errorf("capability %q", got)
		}
		var root unix.Stat_t
		b.check(unix.Lstat(p, &root))
		if root.Mode&0o7777 != 0o755 || root.Mtim.Sec != 0 {
			t.Errorf("root: mode %o, time %d", root.Mode, root.Mtim.Sec)
		}
	})
}

// TestUnkeptAttributes: what the host can't keep of a layer is told, once a layer.
func TestUnkeptAttributes(t *testing.T) {
	on(t, func(t *testing.T, b *bench) {
		var told bytes.Buffer
		b.cfg.Log = slog.New(slog.NewTextHandler(&told, nil))
		b.reopen()
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		for _, name := range []string{"a", "b"} {
			b.check(w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.odd": "v"}}))
		}
		b.check(w.Close())
		diff := brig.DigestOf(archive.Bytes())
		_, err := b.Apply(t.Context(), "", diff, diff, &archive, nil)
		b.check(err)
		if s := told.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "attributes=2") || !strings.Contains(s, string(diff)) {
			t.Errorf("told: %q", s)
		}
	}, "copy")
}

func TestContract(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		data := tarball("f a 12345")
		diff := brig.DigestOf(data)
		none := brig.DigestOf([]byte("none"))
		if name, status := b.Driver(); name != b.cfg.Driver || len(status) == 0 {
			t.Errorf("driver %q %v", name, status)
		}
		_, err := b.Apply(ctx, "", diff, diff, bytes.NewReader(append(data, 0)), nil)
		b.kind("wrong digest", err, errs.Invalid)
		_, err = b.Apply(ctx, "", diff, diff, bytes.NewReader(data[:700]), nil)
		b.kind("truncated", err, errs.Invalid)
		_, err = b.Apply(ctx, none, brig.ChainID(none, diff), diff, bytes.NewReader(data), nil)
		b.kind("no parent", err, errs.NotFound)
		_, err = b.Apply(ctx, "", none, diff, bytes.NewReader(data), nil)
		b.kind("wrong chain", err, errs.Invalid)
		if ok, _ := b.Has(ctx, diff); ok {
			t.Error("a failed layer is there")
		}
		for _, d := range []string{"l", "w"} {
			if list, _ := os.ReadDir(filepath.Join(b.cfg.Root, d)); len(list) > 0 {
				t.Errorf("a failed layer left %s/%s", d, list[0].Name())
			}
		}
		a, err := b.Apply(ctx, "", diff, diff, bytes.NewReader(data), nil)
		if err != nil || a.Diff != diff || a.Size != 5 {
			t.Fatalf("%+v, %v", a, err)
		}
		a, err = b.Apply(ctx, "", diff, diff, unread{t}, nil)
		if err != nil || a.Size != 5 {
			t.Errorf("again: %+v, %v", a, err)
		}
		child := b.add(diff, "f b 1")
		b.kind("drop of a parent", b.Drop(ctx, diff), errs.Conflict)

		id := brig.NewRID()
		b.kind("prepare on nothing", b.Prepare(ctx, id, none, 0), errs.NotFound)
		b.kind("bad name", b.Prepare(ctx, "../../etc", child, 0), errs.Invalid)
		b.check(b.Prepare(ctx, id, child, 0))
		b.kind("prepare twice", b.Prepare(ctx, id, child, 0), errs.Conflict)
		b.kind("drop under a container", b.Drop(ctx, child), errs.Conflict)
		p, err := b.Mount(ctx, id)
		b.check(err)
		if q, err := b.Mount(ctx, id); err != nil || q != p {
			t.Errorf("mounted again: %q, %v", q, err)
		}
		b.check(os.WriteFile(p+"/kept", []byte("1"), 0o600))
		b.check(b.Unmount(ctx, id))
		b.check(b.Unmount(ctx, id))
		b.reopen()
		p, err = b.Mount(ctx, id)
		b.check(err)
		if got := show(t, p); got != "a=12345 b=1 kept=1" {
			t.Errorf("after a restart: %s", got)
		}
		b.check(b.Remove(ctx, id))
		b.check(b.Remove(ctx, id))
		_, err = b.Mount(ctx, id)
		b.kind("mount of nothing", err, errs.NotFound)
		b.check(b.Drop(ctx, child))
		b.check(b.Drop(ctx, child))
		b.check(b.Drop(ctx, diff))
		if ok, _ := b.Has(ctx, diff); ok {
			t.Error("a dropped chain is there")
		}
	})
}

// unread fails the test if it is read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("read a layer that is there already")
	return 0, io.EOF
}

func TestQuota(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		chain := b.add("", "f a 1")
		id := brig.NewRID()
		err := b.Prepare(t.Context(), id, chain, 8<<20)
		if b.cfg.Driver != "zfs" {
			b.kind("quota", err, errs.NotImplemented)
			_, err = b.MakeVolume(t.Context(), brig.NewRID(), 1<<20)
			b.kind("volume quota", err, errs.NotImplemented)
			return
		}
		b.check(err)
		p, err := b.Mount(t.Context(), id)
		b.check(err)
		noise := make([]byte, 1<<20)
		rand.Read(noise)
		for i := 0; err == nil && i < 64; i++ {
			err = os.WriteFile(fmt.Sprintf("%s/%d", p, i), append(noise, byte(i)), 0o600)
			unix.Sync()
		}
		if err == nil {
			t.Error("the quota holds nothing")
		}
	})
}

func TestEmptyRoot(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		id, p := b.run("")
		b.check(os.Mkdir(p+"/d", 0o755))
		b.check(os.WriteFile(p+"/d/f", nil, 0o600))
		c, err := b.Diff(t.Context(), id)
		if want := []brig.Change{{Path: "/d", Kind: brig.ChangeAdded}, {Path: "/d/f", Kind: brig.ChangeAdded}}; err != nil || !slices.Equal(c, want) {
			t.Errorf("%v, %v", c, err)
		}
	})
}

func TestDiff(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		chain := b.add(b.add("", "d etc", "f etc/a 1", "f etc/b 2", "d d", "f d/x 1", "f t 1", "d opq", "f opq/o 1", "f opq/p 1"), "f same 1")
		id, p := b.run(chain)
		b.check(os.WriteFile(p+"/etc/a", []byte("changed"), 0o644))
		b.check(os.Remove(p + "/etc/b"))
		b.check(os.RemoveAll(p + "/d"))
		b.check(os.MkdirAll(p+"/new/sub", 0o755))
		b.check(os.WriteFile(p+"/new/f", nil, 0o644))
		b.check(os.Remove(p + "/t"))
		b.check(os.Mkdir(p+"/t", 0o755))
		b.check(os.RemoveAll(p + "/opq"))
		b.check(os.Mkdir(p+"/opq", 0o755))
		b.check(os.WriteFile(p+"/opq/p", []byte("22"), 0o644))
		want := []brig.Change{
			{Path: "/d", Kind: brig.ChangeDeleted}, {Path: "/etc", Kind: brig.ChangeModified}, {Path: "/etc/a", Kind: brig.ChangeModified},
			{Path: "/etc/b", Kind: brig.ChangeDeleted}, {Path: "/new", Kind: brig.ChangeAdded}, {Path: "/new/f", Kind: brig.ChangeAdded},
			{Path: "/new/sub", Kind: brig.ChangeAdded}, {Path: "/opq", Kind: brig.ChangeModified}, {Path: "/opq/o", Kind: brig.ChangeDeleted},
			{Path: "/opq/p", Kind: brig.ChangeModified}, {Path: "/t", Kind: brig.ChangeModified},
		}
		for _, state := range []string{"mounted", "unmounted"} {
			got, err := b.Diff(t.Context(), id)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: %v\n got %v\nwant %v", state, err, got, want)
			}
			b.check(b.Unmount(t.Context(), id))
		}
	})
}

func TestConcurrentApply(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		base := b.add("", "d d", "f d/base 1")
		var wg sync.WaitGroup
		for i := range 4 { // four siblings, each three times
			data := tarball(fmt.Sprintf("f d/s%d 1", i))
			diff := brig.DigestOf(data)
			for range 3 {
				wg.Go(func() {
					if _, err := b.Apply(t.Context(), base, brig.ChainID(base, diff), diff, bytes.NewReader(data), nil); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		for i := range 4 {
			_, p := b.run(brig.ChainID(base, brig.DigestOf(tarball(fmt.Sprintf("f d/s%d 1", i)))))
			if got, want := show(t, p), fmt.Sprintf("d/ d/base=1 d/s%d=1", i); got != want {
				t.Errorf("sibling %d: %s", i, got)
			}
		}
	})
}

func TestDropWhileAChildIsMade(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		base := b.add("", "f a 1")
		data := tarball("f b 1")
		diff := brig.DigestOf(data)
		r, w := io.Pipe()
		done := make(chan error)
		go func() {
			_, err := b.Apply(t.Context(), base, brig.ChainID(base, diff), diff, r, nil)
			done <- err
		}()
		w.Write(data[:600])
		b.kind("drop", b.Drop(t.Context(), base), errs.Conflict)
		b.check(b.Sweep(t.Context(), brig.Live{}))
		w.Write(data[600:])
		w.Close()
		b.check(<-done)
	})
}

func TestCancelledApplyLeavesNothing(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		base := b.add("", "f a 1")
		data := tarball("f b 1")
		diff := brig.DigestOf(data)
		ctx, cancel := context.WithCancel(t.Context())
		_, err := b.Apply(ctx, base, brig.ChainID(base, diff), diff, io.MultiReader(bytes.NewReader(data[:600]), canceller{cancel}, bytes.NewReader(data[600:])), nil)
		b.kind("cancelled", err, errs.Canceled)
		next := b.add(base, "f c 1")
		_, p := b.run(next)
		if got := show(t, p); got != "a=1 c=1" {
			t.Errorf("after a cancelled layer: %s", got)
		}
	})
}

type canceller struct{ cancel func() }

func (c canceller) Read([]byte) (int, error) { c.cancel(); return 0, io.EOF }

// What is just being deleted is no leftover that a look at the store would complain of.
func TestStoredWhileDeleting(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		id, p := b.run(b.add("", "f a 1"))
		for i := range 3000 {
			b.check(os.WriteFile(fmt.Sprintf("%s/%d", p, i), nil, 0o600))
		}
		b.check(b.Unmount(t.Context(), id))
		removed := make(chan error, 1)
		go func() { removed <- b.Remove(t.Context(), id) }()
		for looks := 0; ; looks++ {
			items, err := b.Stored(t.Context())
			b.check(err)
			for _, i := range items {
				if i.Stray {
					t.Fatalf("look %d: %+v", looks, i)
				}
			}
			select {
			case err := <-removed:
				b.check(err)
				return
			default:
			}
		}
	})
}

func TestSweep(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		base := b.add("", "f a 1")
		kept, dead := b.add(base, "f b 1"), b.add(base, "f c 1")
		deader := b.add(dead, "f d 1")
		keepID, _ := b.run(kept)
		deadID, _ := b.run(deader)
		vol, lost := brig.NewRID(), brig.NewRID()
		vp, err := b.MakeVolume(ctx, vol, 0)
		b.check(err)
		b.check(os.WriteFile(vp+"/f", []byte("1"), 0o600))
		_, err = b.MakeVolume(ctx, lost, 0)
		b.check(err)
		b.crash()
		b.reopen()
		live := brig.Live{Chains: []brig.Digest{kept}, Containers: []brig.RID{keepID}, Volumes: []brig.RID{vol}}
		for range 2 {
			b.check(b.Sweep(ctx, live))
		}
		for c, want := range map[brig.Digest]bool{base: true, kept: true, dead: false, deader: false} {
			if ok, _ := b.Has(ctx, c); ok != want {
				t.Errorf("chain %s: %v", c, ok)
			}
		}
		if _, err := b.Mount(ctx, deadID); !errs.Is(err, errs.NotFound) {
			t.Errorf("dead container: %v", err)
		}
		p, err := b.Mount(ctx, keepID)
		b.check(err)
		if got := show(t, p); got != "a=1 b=1" {
			t.Errorf("living container: %s", got)
		}
		if got := show(t, vp); got != "f=1" {
			t.Errorf("living volume: %s", got)
		}
		for _, d := range []string{"w", "v", "mnt"} {
			list, _ := os.ReadDir(filepath.Join(b.cfg.Root, d))
			if want := map[string]int{"v": 1, "mnt": len(list)}[d]; len(list) != want || (d == "mnt" && len(list) > 1) {
				t.Errorf("%s/ holds %d", d, len(list))
			}
		}
		b.check(b.RemoveVolume(ctx, vol))
		b.check(b.RemoveVolume(ctx, vol))
	})
}

// crash leaves on disk what a kill between any two steps could leave.
func (b *bench) crash() {
	b.t.Helper()
	if b.cfg.Driver == "zfs" {
		b.crashZFS()
		return
	}
	put := func(content string, parts ...string) {
		p := filepath.Join(append([]string{b.cfg.Root}, parts...)...)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
	put("x", "w", string(brig.NewRID()), "diff", "half")         // killed while extracting
	put("{\"Chain\":", "w", string(brig.NewRID()), "layer.json") // while writing the record
	put("{\"Chain\":", "l", string(brig.NewRID()), "layer.json") // a file that the disk lost half of
	put("x", "l", string(brig.NewRID()), "diff", "f")            // or all of
	orphan := brig.NewRID()                                      // its parent is gone
	put(fmt.Sprintf(`{"Chain":"sha256:%064d","Parent":"sha256:%064d","RID":%q}`, 1, 2, orphan), "l", string(orphan), "layer.json")
	put("x", "c", string(brig.NewRID()), "upper", "f") // a container without a record
	put("x", "w", string(brig.NewRID()), "upper", "f") // a container half deleted
	if b.cfg.Driver == "overlay" {
		p := filepath.Join(b.cfg.Root, "mnt", string(brig.NewRID()))
		if err := os.Mkdir(p, 0o711); err != nil {
			b.t.Fatal(err)
		}
		staleMount(b.t, p)
	}
}

func TestManyLayers(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		var chain brig.Digest
		for i := range 100 {
			chain = b.add(chain, "d d", fmt.Sprintf("f d/%03d %d", i, i), fmt.Sprintf("f top %d", i))
		}
		b.reopen()
		_, p := b.run(chain)
		list, err := os.ReadDir(p + "/d")
		top, _ := os.ReadFile(p + "/top")
		if err != nil || len(list) != 100 || string(top) != "99" {
			t.Errorf("%d names, top %q, %v", len(list), top, err)
		}
	})
}

func TestVolume(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		id := brig.NewRID()
		p, err := b.MakeVolume(t.Context(), id, 0)
		b.check(err)
		b.check(os.WriteFile(p+"/f", []byte("1"), 0o600))
		if q, err := b.MakeVolume(t.Context(), id, 0); err != nil || p != q || show(t, p) != "f=1" {
			t.Errorf("again: %q, %v", q, err)
		}
		if st, err := os.Stat(p); err != nil || st.Mode().Perm() != 0o755 {
			t.Errorf("%v, %v", st, err)
		}
		b.check(b.RemoveVolume(t.Context(), id))
		if _, err := os.Stat(p); err == nil {
			t.Error("a removed volume is there")
		}
		b.kind("bad name", b.RemoveVolume(t.Context(), "../c"), errs.Invalid)
	})
}

func TestBusyUnmount(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		id, p := b.run(b.add("", "f a 1"))
		f, err := os.Open(p + "/a")
		b.check(err)
		defer f.Close()
		b.check(b.Remove(t.Context(), id))
		_, err = b.Mount(t.Context(), id)
		b.kind("mount of what was removed while busy", err, errs.NotFound)
	})
}

func TestDriverIsRemembered(t *testing.T) {
	cfg := Config{Root: filepath.Join(t.TempDir(), "store"), Driver: "copy"}
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	cfg.Driver = "auto"
	if s, err = Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if name, _ := s.Driver(); name != "copy" {
		t.Errorf("auto took %s for a store of copy's", name)
	}
	cfg.Driver = "zfs"
	if _, err = Open(t.Context(), cfg); !errs.Is(err, errs.Conflict) {
		t.Errorf("another driver: %v", err)
	}
	for _, bad := range []Config{{Root: "relative"}, {Root: t.TempDir(), Driver: "vfs"}} {
		if _, err := Open(t.Context(), bad); !errs.Is(err, errs.Invalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

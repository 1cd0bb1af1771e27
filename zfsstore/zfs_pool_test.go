package zfsstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/host"
	"golang.org/x/sys/unix"
)

// These tests are about what only zfs has. They need a pool (make test-zfs).

// onPool runs test on a new store on the pool.
func onPool(t *testing.T, test func(t *testing.T, b *bench)) {
	if zfsPool() == "" {
		t.Skip("BRIG_TEST_ZPOOL names no dataset to work beneath: make test-zfs runs this on real OpenZFS")
	}
	on(t, test, "zfs")
}

// zfs runs a command of somebody else's, or of a brigd that was killed after it.
func (b *bench) zfs(args ...string) {
	b.t.Helper()
	if _, err := host.Run(context.Background(), append([]string{"zfs"}, args...)...); err != nil {
		b.t.Fatal(err)
	}
}

// has reports whether a dataset or snapshot exists; its name is as of the store's.
func (b *bench) has(name string) bool {
	b.t.Helper()
	list, err := zfsList(context.Background(), b.cfg.ZFSParent)
	b.check(err)
	return slices.ContainsFunc(list, func(e entry) bool { return e.name == name })
}

// imageOf returns the full name of the dataset that holds a chain.
func (b *bench) imageOf(chain brig.Digest) string {
	l, _ := b.find(chain)
	return b.cfg.ZFSParent + "/i/" + string(l.RID)
}

// wantTree makes a container of chain and compares what is in it.
func (b *bench) wantTree(what string, chain brig.Digest, want string) {
	b.t.Helper()
	id, p := b.run(chain)
	if got, err := os.ReadDir(p); err != nil || names1(got) != want {
		b.t.Errorf("%s: the container holds %q, %v, want %q", what, names1(got), err, want)
	}
	b.check(b.Remove(context.Background(), id))
}

func names1(list []fs.DirEntry) string {
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

// half leaves chain's dataset as a kill while a layer was extracted into it does: mounted in w/, with a file that no snapshot has.
func (b *bench) half(chain brig.Digest) {
	b.t.Helper()
	dir := filepath.Join(b.cfg.Root, "w", string(brig.NewRID()))
	b.check(os.Mkdir(dir, 0o711))
	b.check(mountZFS(context.Background(), b.imageOf(chain), dir))
	b.check(os.WriteFile(dir+"/half", []byte("1"), 0o600))
}

// crashZFS leaves on the pool what a kill between any two steps could leave.
func (b *bench) crashZFS() {
	b.t.Helper()
	for chain := range b.chains {
		b.half(chain)
		break
	}
	ds := func(kind string) string { return b.cfg.ZFSParent + "/" + kind + "/" + string(brig.NewRID()) }
	for _, kind := range []string{"i", "c", "v"} {
		b.zfs("create", ds(kind))
	}
	// A layer without a commit, and what was cloned from it: the one can't go before the others.
	lost := ds("i")
	b.zfs("create", lost)
	b.zfs("snapshot", lost+"@l1")
	for _, kind := range []string{"i", "c"} {
		b.zfs("clone", lost+"@l1", ds(kind))
	}
	nested := ds("c")
	b.zfs("create", nested)
	b.zfs("create", nested+"/inner")
}

func TestZFSHalfWrittenLayer(t *testing.T) {
	onPool(t, func(t *testing.T, b *bench) {
		base := b.add("", "f a 1")
		b.half(base)
		b.reopen()
		next := b.add(base, "f c 1")
		if b.imageOf(next) != b.imageOf(base) {
			t.Error("the layer was cloned though it could grow in place")
		}
		b.wantTree("grown after a crash", next, "a c")
		b.half(next)
		b.reopen()
		b.check(b.Sweep(t.Context(), brig.Live{Chains: []brig.Digest{next}}))
		if list, _ := os.ReadDir(filepath.Join(b.cfg.Root, "w")); len(list) != 0 {
			t.Errorf("a sweep leaves %d in w/", len(list))
		}
		b.wantTree("grown after a crash and a sweep", b.add(next, "f d 1"), "a c d")
	})
}

func TestZFSForeignSnapshots(t *testing.T) {
	onPool(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		base := b.add("", "f a 1")
		b.zfs("snapshot", b.imageOf(base)+"@daily")
		b.reopen()
		next := b.add(base, "f c 1")
		b.wantTree("beside a foreign snapshot", next, "a c")
		rel := "i/" + filepath.Base(b.imageOf(base)) + "@daily"
		if !b.has(rel) {
			t.Error("the foreign snapshot was lost")
		}
		// One that comes while a layer is made keeps a failed layer from being rolled back. It may even have the name that ours would.
		b.zfs("snapshot", b.imageOf(next)+"@l3")
		data := tarball("f junk 1")
		diff := brig.DigestOf(data)
		_, err := b.Apply(ctx, next, brig.ChainID(next, diff), diff, bytes.NewReader(append(data, 1)), nil)
		b.kind("bad layer", err, errs.Invalid)
		if !b.has("i/" + filepath.Base(b.imageOf(next)) + "@l3") {
			t.Error("a foreign snapshot was taken for ours")
		}
		last := b.add(next, "f d 1")
		b.wantTree("after a failed layer", last, "a c d")
		id, _ := b.run(last)
		b.zfs("snapshot", b.cfg.ZFSParent+"/c/"+string(id)+"@mine")
		b.check(b.Remove(ctx, id))
		for _, c := range []brig.Digest{last, next, base} {
			b.check(b.Drop(ctx, c))
		}
		for _, name := range []string{rel, "c/" + string(id)} {
			if b.has(name) {
				t.Errorf("%s is left after what it belongs to went", name)
			}
		}
	})
}

// TestZFSForeignClones: what somebody cloned from a layer or a container is never destroyed, and keeps nothing of ours from going later.
func TestZFSForeignClones(t *testing.T) {
	onPool(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		base := b.add("", "f a 1")
		top := b.add(base, "f b 1")
		mine := b.cfg.ZFSParent + "-mine"
		l, _ := b.find(top)
		image := "i/" + string(l.RID)
		b.zfs("clone", b.cfg.ZFSParent+"/"+image+"@l2", mine)
		defer func() {
			if _, err := zfsList(ctx, mine); err == nil {
				b.zfs("destroy", "-r", mine)
			}
		}()
		b.check(b.Drop(ctx, top))
		if !b.has(image + "@l2") {
			t.Error("a layer went though it was cloned")
		}
		b.wantTree("beside a layer on its way out", b.add(base, "f c 1"), "a c")
		b.reopen()
		if ok, _ := b.Has(ctx, top); ok {
			t.Error("a dropped layer is back after a restart")
		}
		b.wantTree("the same after a restart", b.add(base, "f d 1"), "a d")
		id, _ := b.run(base)
		box := b.cfg.ZFSParent + "/c/" + string(id)
		b.zfs("snapshot", box+"@mine")
		b.zfs("clone", box+"@mine", mine+"/box")
		b.check(b.Remove(ctx, id))
		if !b.has("c/" + string(id)) {
			t.Error("a container's dataset went though it was cloned")
		}
		b.zfs("destroy", "-r", mine)
		if b.has(image + "@l2") {
			t.Error("the layer stays after its last clone has gone")
		}
		other, _ := b.run(base)
		b.check(b.Remove(ctx, other))
		if b.has("c/" + string(id)) {
			t.Error("the container stays after its last clone has gone")
		}
	})
}

func TestZFSNestedDatasets(t *testing.T) {
	onPool(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		base := b.add("", "d sub", "f a 1")
		id, p := b.run(base)
		vol := brig.NewRID()
		v, err := b.MakeVolume(ctx, vol, 0)
		b.check(err)
		for ds, dir := range map[string]string{"/c/" + string(id): p + "/sub", "/v/" + string(vol): v + "/sub", strings.TrimPrefix(b.imageOf(base), b.cfg.ZFSParent): ""} {
			b.zfs("create", b.cfg.ZFSParent+ds+"/inner")
			b.zfs("snapshot", b.cfg.ZFSParent+ds+"/inner@l1")
			if dir != "" {
				b.check(os.MkdirAll(dir, 0o755))
				b.check(mountZFS(ctx, b.cfg.ZFSParent+ds+"/inner", dir))
				b.check(os.WriteFile(dir+"/f", []byte("1"), 0o600))
			}
		}
		b.reopen()
		next := b.add(base, "f b 1")
		b.wantTree("of an image with a nested dataset", next, "a b sub")
		b.check(b.Remove(ctx, id))
		b.check(b.RemoveVolume(ctx, vol))
		b.check(b.Drop(ctx, next))
		b.check(b.Drop(ctx, base))
		list, err := zfsList(ctx, b.cfg.ZFSParent)
		b.check(err)
		for _, e := range list {
			if strings.Contains(e.name, "inner") {
				t.Errorf("%s is left", e.name)
			}
		}
	})
}

// fillUp writes noise to dir until that fails, and returns how many bytes fitted.
func fillUp(dir string) (int64, error) {
	noise := make([]byte, 256<<10)
	rand.Read(noise)
	var total int64
	for i := range 256 {
		f, err := os.Create(fmt.Sprintf("%s/fill%d", dir, i))
		if err != nil {
			return total, err
		}
		n, err := f.Write(append(noise, byte(i)))
		total += int64(n)
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return total, err
		}
	}
	return total, nil
}

func TestZFSQuotas(t *testing.T) {
	const size = 4 << 20 // bytes
	onPool(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		noise := make([]byte, 3*size)
		rand.Read(noise)
		chain := b.add("", "f big "+string(noise)) // the image's own data doesn't count
		id, vol := brig.NewRID(), brig.NewRID()
		b.check(b.Prepare(ctx, id, chain, size))
		v, err := b.MakeVolume(ctx, vol, size)
		b.check(err)
		p, err := b.Mount(ctx, id)
		b.check(err)
		for what, dir := range map[string]string{"container": p, "volume": v} {
			n, err := fillUp(dir)
			if !errors.Is(err, syscall.EDQUOT) {
				t.Errorf("%s: %v after %d bytes, want the quota exceeded", what, err, n)
			}
			// zfs(8): enforcement may lag behind by what is not yet on disk.
			if n < size/2 || n > 2*size {
				t.Errorf("%s: %d bytes fitted into %d", what, n, size)
			}
		}
		b.check(b.Unmount(ctx, id))
		b.reopen()
		p, err = b.Mount(ctx, id)
		b.check(err)
		if err := os.WriteFile(p+"/more", noise[:size], 0o600); err == nil {
			t.Error("the quota is gone after a restart")
		}
		b.check(os.Remove(p + "/fill0"))
	})
}

// wrapZFS puts a script in the place of zfs for this test; $zfs in it is the real one.
func wrapZFS(t *testing.T, script string) {
	t.Helper()
	zfs, err := host.Run(t.Context(), "sh", "-c", "command -v zfs")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	script = "#!/bin/sh\nzfs=" + strings.TrimSpace(string(zfs)) + "\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(bin, "zfs"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

// TestZFSCancelledClone ends the context after the clone was made and before zfs has said so.
func TestZFSCancelledClone(t *testing.T) {
	onPool(t, func(t *testing.T, b *bench) {
		chain, id := b.add("", "f a 1"), brig.NewRID()
		fifo := filepath.Join(t.TempDir(), "cloned")
		b.check(unix.Mkfifo(fifo, 0o600))
		wrapZFS(t, "[ $1 = clone ] || exec $zfs \"$@\"; $zfs \"$@\" && echo done >"+fifo+" && exec sleep 60")
		ctx, cancel := context.WithCancel(t.Context())
		read := make(chan error)
		go func() {
			_, err := os.ReadFile(fifo) // until the clone is there
			cancel()
			read <- err
		}()
		err := b.Prepare(ctx, id, chain, 0)
		b.check(<-read)
		b.kind("prepare", err, errs.Canceled)
		if b.has("c/" + string(id)) {
			t.Error("the clone is left")
		}
	})
}

// TestZFSListsOnce looks at what is run: one list of all that there is at start, and none later.
func TestZFSListsOnce(t *testing.T) {
	onPool(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		chain := b.add("", "f a 1")
		log := filepath.Join(t.TempDir(), "log")
		wrapZFS(t, "echo \"$@\" >>"+log+"; exec $zfs \"$@\"")
		ran := func() []string {
			out, err := os.ReadFile(log)
			b.check(err)
			b.check(os.Remove(log))
			return strings.Split(strings.TrimSpace(string(out)), "\n")
		}
		b.reopen()
		all := 0
		for _, cmd := range ran() {
			if !strings.HasPrefix(cmd, "list ") {
				t.Errorf("opening a store that exists ran zfs %s", cmd)
			}
			if strings.Contains(cmd, "-r") {
				all++
			}
		}
		if all != 1 {
			t.Errorf("%d lists of all datasets at start", all)
		}
		id, _ := b.run(chain)
		_, err := b.Diff(ctx, id)
		b.check(err)
		b.Driver()
		b.Has(ctx, chain)
		b.check(b.Remove(ctx, id))
		b.check(b.Drop(ctx, chain))
		got := ran()
		want := []string{"clone ", "destroy ", "destroy ", "destroy "}
		if !slices.EqualFunc(got, want, strings.HasPrefix) {
			t.Errorf("one container's and one layer's life ran %q", got)
		}
	})
}

// TestZFSFaultsAreReal has zfs(8) say every message that zfsFaults knows.
func TestZFSFaultsAreReal(t *testing.T) {
	onPool(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		top := b.cfg.ZFSParent + "-faults"
		b.zfs("create", "-o", "mountpoint=legacy", top)
		defer b.zfs("destroy", "-R", top)
		b.zfs("create", top+"/held")
		b.zfs("create", top+"/cloned")
		b.zfs("snapshot", top+"/cloned@s")
		b.zfs("clone", top+"/cloned@s", top+"/clone")
		dir := t.TempDir()
		b.check(mountZFS(ctx, top+"/held", dir))
		f, err := os.Create(dir + "/f")
		b.check(err)
		defer f.Close()
		b.check(forceUnmount(dir))
		for _, c := range []struct {
			args string
			want error
		}{
			{"list " + top + "/none", errGone}, {"destroy " + top + "/none", errGone}, {"destroy -r " + top + "/none", errGone},
			{"destroy " + top + "/cloned@none", errGone}, {"destroy -d " + top + "/cloned@none", errGone},
			{"destroy " + top + "/none@s", errGone}, {"snapshot " + top + "/none@s", errGone},
			{"rollback " + top + "/cloned@none", errGone}, {"clone " + top + "/cloned@none " + top + "/x", errGone},
			{"create " + top + "/cloned", errExists}, {"clone " + top + "/cloned@s " + top + "/clone", errExists},
			{"snapshot " + top + "/cloned@s", errExists},
			{"destroy " + top + "/cloned@s", errCloned}, {"destroy -r " + top + "/cloned", errCloned}, {"destroy " + top, errCloned},
			{"destroy -r " + top + "/held", errBusy},
		} {
			if c.want == errBusy && forceBreaks {
				continue // nothing holds it any more
			}
			err := zfs(ctx, strings.Fields(c.args)...)
			if !errors.Is(err, c.want) {
				t.Errorf("zfs %s: %v, want %v", c.args, err, c.want)
			}
		}
	})
}

// TestZFSBusyRemoval removes what a process holds open: it is gone for brig at once, and from the pool when it is let go.
func TestZFSBusyRemoval(t *testing.T) {
	onPool(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		chain := b.add("", "f a 1")
		id, p := b.run(chain)
		vol := brig.NewRID()
		v, err := b.MakeVolume(ctx, vol, 0)
		b.check(err)
		var open []*os.File
		for _, dir := range []string{p, v} {
			f, err := os.Create(dir + "/held")
			b.check(err)
			defer f.Close()
			open = append(open, f)
		}
		b.check(b.Remove(ctx, id))
		b.check(b.RemoveVolume(ctx, vol))
		b.check(b.Drop(ctx, chain))
		for _, f := range open {
			if _, err := f.Write([]byte("x")); (err != nil) != forceBreaks {
				t.Errorf("what was open broke: %v, want %v", err, forceBreaks)
			}
			b.check(f.Close())
		}
		other, _ := b.run(b.add("", "f b 1"))
		b.check(b.Remove(ctx, other))
		for _, name := range []string{"c/" + string(id), "v/" + string(vol)} {
			if b.has(name) {
				t.Errorf("%s is left after nobody held it any more", name)
			}
		}
	})
}

// TestZFSByItself opens a store that lies on zfs without saying so.
func TestZFSByItself(t *testing.T) {
	onPool(t, func(t *testing.T, b *bench) {
		ds, dir := b.cfg.ZFSParent+"-home", t.TempDir()
		b.zfs("create", "-o", "mountpoint=legacy", ds)
		b.check(mountZFS(t.Context(), ds, dir))
		defer func() {
			b.check(unmountDir(context.Background(), b.log, dir))
			b.zfs("destroy", "-r", ds)
		}()
		s := &bench{t: t, cfg: Config{Root: filepath.Join(dir, "store")}}
		s.reopen()
		name, status := s.Driver()
		if name != "zfs" || !slices.ContainsFunc(status, func(kv [2]string) bool { return strings.HasPrefix(kv[1], ds+"/brig-") }) {
			t.Errorf("driver %s %v", name, status)
		}
		id, p := s.run(s.add("", "f a 1"))
		if err := unix.Access(p+"/a", unix.R_OK); err != nil {
			t.Error(err)
		}
		s.reopen()
		s.check(s.Remove(t.Context(), id))
		s.clean()
	})
}

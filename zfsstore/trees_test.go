package zfsstore

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/tarfs"
)

// The seam as runtime declares it.
type trees interface {
	PrepareTree(ctx context.Context, id brig.RID, parent brig.Digest) error
	CommitTree(ctx context.Context, id brig.RID, chain brig.Digest) (size int64, made bool, err error)
	ReadLayer(ctx context.Context, chain brig.Digest, use func(dir string, changes []brig.Change) error) error
}

var _ trees = (*Store)(nil)

// grow makes a tree on parent, has change work on it, and commits it; made is false if that came to nothing.
func (b *bench) grow(parent brig.Digest, change func(root string)) (chain brig.Digest, size int64, made bool) {
	b.t.Helper()
	ctx := context.Background()
	id := brig.NewRID()
	b.check(b.PrepareTree(ctx, id, parent))
	p, err := b.Mount(ctx, id)
	b.check(err)
	change(p)
	chain = brig.DigestOf([]byte(id))
	size, made, err = b.CommitTree(ctx, id, chain)
	b.check(err)
	_, err = b.Mount(ctx, id)
	b.kind("mount of what was committed", err, errs.NotFound)
	b.check(b.Remove(ctx, id))
	return chain, size, made
}

// packed is the layer's tar.
func (b *bench) packed(chain brig.Digest) []byte {
	b.t.Helper()
	var out bytes.Buffer
	b.check(b.ReadLayer(b.t.Context(), chain, func(dir string, changes []brig.Change) error {
		return tarfs.PackChanges(b.t.Context(), &out, dir, changes)
	}))
	return out.Bytes()
}

func (b *bench) do(list ...error) {
	b.t.Helper()
	for _, err := range list {
		b.check(err)
	}
}

func TestCommitTree(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		base := b.add(b.add("", "d etc", "f etc/a 1", "f etc/b 2", "d d", "f d/x 1", "d opq", "f opq/o 1", "f opq/p 1", "f t 1", "d u", "f u/v 1"), "f same 1")
		first, size, made := b.grow(base, func(p string) {
			b.do(os.WriteFile(p+"/etc/a", []byte("changed"), 0o644), os.Remove(p+"/etc/b"), os.RemoveAll(p+"/d"), os.MkdirAll(p+"/new/sub", 0o755),
				os.WriteFile(p+"/new/f", []byte("12"), 0o644), os.Link(p+"/new/f", p+"/new/g"), os.Remove(p+"/t"), os.Mkdir(p+"/t", 0o755),
				os.RemoveAll(p+"/opq"), os.Mkdir(p+"/opq", 0o755), os.WriteFile(p+"/opq/p", []byte("22"), 0o644), os.Chmod(p+"/u", 0o700))
		})
		if !made || (size != 11 && b.cfg.Driver != "zfs") || size < 11 {
			t.Errorf("%d bytes, made %v", size, made)
		}
		second, _, made := b.grow(first, func(p string) {
			b.do(os.Remove(p+"/new/g"), os.Mkdir(p+"/d", 0o755), os.WriteFile(p+"/d/y", []byte("3"), 0o644), os.RemoveAll(p+"/u"))
		})
		if !made {
			t.Error("the second is not made")
		}
		want := map[brig.Digest]string{
			first:  "etc/ etc/a=changed new/ new/f=12 new/g=12 new/sub/ opq/ opq/p=22 same=1 t/ u/ u/v=1",
			second: "d/ d/y=3 etc/ etc/a=changed new/ new/f=12 new/sub/ opq/ opq/p=22 same=1 t/",
		}
		tars := map[brig.Digest][]byte{}
		for range 2 {
			for chain, tree := range want {
				id, p := b.run(chain)
				if got := show(t, p); got != tree {
					t.Errorf("\n got %s\nwant %s", got, tree)
				}
				if c, err := b.Diff(t.Context(), id); err != nil || len(c) > 0 {
					t.Errorf("a fresh container differs: %v, %v", c, err)
				}
				b.check(b.Remove(t.Context(), id))
				tar := b.packed(chain)
				if old := tars[chain]; old != nil && !bytes.Equal(old, tar) {
					t.Error("a layer's tar has other bytes the second time")
				}
				tars[chain] = tar
			}
			b.check(b.Sync(t.Context()))
			b.reopen()
		}
		// What the tars say is what the chains are.
		again := base
		for _, chain := range []brig.Digest{first, second} {
			diff := brig.DigestOf(tars[chain])
			next := brig.ChainID(again, diff)
			_, err := b.Apply(t.Context(), again, next, diff, bytes.NewReader(tars[chain]), nil)
			b.check(err)
			_, p := b.run(next)
			if got := show(t, p); got != want[chain] {
				t.Errorf("from its tar:\n got %s\nwant %s", got, want[chain])
			}
			again = next
		}
	})
}

func TestReadLayer(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		base := b.add("", "d etc", "f etc/a 1", "f etc/b 2")
		chain, _, _ := b.grow(base, func(p string) { b.do(os.Remove(p+"/etc/b"), os.WriteFile(p+"/c", nil, 0o600)) })
		for c, want := range map[brig.Digest][]brig.Change{
			base:  {{Path: "/etc", Kind: brig.ChangeAdded}, {Path: "/etc/a", Kind: brig.ChangeAdded}, {Path: "/etc/b", Kind: brig.ChangeAdded}},
			chain: {{Path: "/c", Kind: brig.ChangeAdded}, {Path: "/etc", Kind: brig.ChangeModified}, {Path: "/etc/b", Kind: brig.ChangeDeleted}},
		} {
			b.check(b.ReadLayer(t.Context(), c, func(dir string, got []brig.Change) error {
				b.kind("drop of what is read", b.Drop(t.Context(), c), errs.Conflict)
				if !slices.Equal(got, want) {
					t.Errorf("\n got %v\nwant %v", got, want)
				}
				for _, x := range got {
					if _, err := os.Lstat(dir + x.Path); err != nil && x.Kind != brig.ChangeDeleted {
						t.Error(err)
					}
				}
				return nil
			}))
		}
		b.kind("a layer that isn't there", b.ReadLayer(t.Context(), brig.DigestOf(nil), nil), errs.NotFound)
		if list, err := os.ReadDir(filepath.Join(b.cfg.Root, "w")); err != nil || len(list) > 0 {
			t.Errorf("w holds %v, %v", list, err)
		}
	})
}

func TestUnchangedTree(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		for _, parent := range []brig.Digest{"", b.add("", "f a 1")} {
			if chain, size, made := b.grow(parent, func(string) {}); made || size != 0 {
				t.Errorf("on %q: chain %s of %d bytes was made", parent, chain, size)
			}
		}
		chain, _, made := b.grow("", func(p string) { b.check(os.WriteFile(p+"/a", nil, 0o600)) })
		if _, p := b.run(chain); !made || show(t, p) != "a=" {
			t.Errorf("on nothing: made %v, %s", made, show(t, p))
		}
	})
}

func TestCommittedTreeIsAChain(t *testing.T) {
	each(t, func(t *testing.T, b *bench) {
		ctx := t.Context()
		base := b.add("", "f a 1")
		write := func(name string) func(string) {
			return func(p string) { b.check(os.WriteFile(filepath.Join(p, name), []byte(name), 0o600)) }
		}
		chain, _, _ := b.grow(base, write("b"))
		dead, _, _ := b.grow(chain, write("c"))
		b.kind("drop of a parent", b.Drop(ctx, base), errs.Conflict)
		id := brig.NewRID()
		b.check(b.PrepareTree(ctx, id, base))
		_, _, err := b.CommitTree(ctx, id, chain)
		b.kind("a name twice", err, errs.Conflict)
		_, _, err = b.CommitTree(ctx, id, "sha256:no")
		b.kind("a bad name", err, errs.Invalid)
		_, _, err = b.CommitTree(ctx, brig.NewRID(), brig.DigestOf(nil))
		b.kind("no tree", err, errs.NotFound)
		p, err := b.Mount(ctx, id)
		b.check(err)
		write("kept")(p)
		b.check(b.Unmount(ctx, id)) // a tree can be unmounted and mounted again
		if p, err = b.Mount(ctx, id); err != nil || show(t, p) != "a=1 kept=kept" {
			t.Errorf("mounted again: %s, %v", show(t, p), err)
		}
		if unused := b.Unused([]brig.Digest{chain}); len(unused) != 1 || unused[0].Chain != dead {
			t.Errorf("unused: %v", unused)
		}
		child := b.add(chain, "f child 1")
		b.check(b.Sync(ctx))
		b.reopen()
		b.check(b.Sweep(ctx, brig.Live{Chains: []brig.Digest{child}}))
		for c, want := range map[brig.Digest]bool{base: true, chain: true, dead: false, child: true} {
			if ok, _ := b.Has(ctx, c); ok != want {
				t.Errorf("chain %s: %v", c, ok)
			}
		}
		items, err := b.Stored(ctx)
		if len(items) != 3 || err != nil {
			t.Errorf("stored: %v, %v", items, err)
		}
		for _, i := range items {
			if i.Stray || i.Lost {
				t.Errorf("not in order: %+v", i)
			}
		}
		if _, p := b.run(child); show(t, p) != "a=1 b=b child=1" {
			t.Errorf("the child: %s", show(t, p))
		}
	})
}

package runtime

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// imgTrees keeps trees and volumes as directories: a tree begins empty, whatever it stands on, and becomes a layer of all that is in it.
type imgTrees struct {
	*imgRoots
	dir string

	mu    sync.Mutex
	trees map[brig.RID]bool
}

func newImgTrees(t *testing.T, roots *imgRoots) *imgTrees {
	return &imgTrees{imgRoots: roots, dir: t.TempDir(), trees: map[brig.RID]bool{}}
}

func (x *imgTrees) at(name string) string { return filepath.Join(x.dir, name) }

func (x *imgTrees) PrepareTree(ctx context.Context, id brig.RID, parent brig.Digest) error {
	if err := x.imgRoots.Prepare(ctx, id, parent, 0); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.trees[id] = true
	return os.Mkdir(x.at(string(id)), 0o755)
}

func (x *imgTrees) Mount(ctx context.Context, id brig.RID) (string, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.trees[id] {
		return x.at(string(id)), nil
	}
	return x.imgRoots.Mount(ctx, id)
}

func (x *imgTrees) Remove(ctx context.Context, id brig.RID) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.trees, id)
	if err := os.RemoveAll(x.at(string(id))); err != nil {
		return err
	}
	return x.imgRoots.Remove(ctx, id)
}

func (x *imgTrees) CommitTree(ctx context.Context, id brig.RID, chain brig.Digest) (size int64, made bool, err error) {
	if err := x.layers.at("commit", chain); err != nil {
		return 0, false, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.trees[id] {
		return 0, false, errs.New(errs.NotFound, "no tree %s", id)
	}
	list := treeChanges(x.at(string(id)))
	delete(x.trees, id)
	x.imgRoots.mu.Lock()
	parent := x.roots[id]
	x.imgRoots.mu.Unlock()
	if len(list) > 0 {
		if err := os.Rename(x.at(string(id)), x.at(chain.Hex())); err != nil {
			return 0, false, err
		}
		x.layers.mu.Lock()
		x.layers.chains[chain], x.layers.synced = parent, false
		x.layers.mu.Unlock()
		size, _ = treeSize(ctx, x.at(chain.Hex()))
	}
	return size, len(list) > 0, x.imgRoots.Remove(ctx, id)
}

func (x *imgTrees) ReadLayer(ctx context.Context, chain brig.Digest, use func(string, []brig.Change) error) error {
	if has, _ := x.layers.Has(ctx, chain); !has {
		return errs.New(errs.NotFound, "no chain %s", chain)
	}
	if err := x.layers.at("read", chain); err != nil {
		return err
	}
	return use(x.at(chain.Hex()), treeChanges(x.at(chain.Hex())))
}

func treeChanges(dir string) (out []brig.Change) {
	fs.WalkDir(os.DirFS(dir), ".", func(path string, _ fs.DirEntry, _ error) error {
		if path != "." {
			out = append(out, brig.Change{Path: "/" + path, Kind: brig.ChangeAdded})
		}
		return nil
	})
	return out
}

func (x *imgTrees) MakeVolume(_ context.Context, id brig.RID, _ int64) (string, error) {
	return x.at("v" + string(id)), os.MkdirAll(x.at("v"+string(id)), 0o755)
}

func (x *imgTrees) RemoveVolume(_ context.Context, id brig.RID) error {
	return os.RemoveAll(x.at("v" + string(id)))
}

func (x *imgTrees) MakeMountPoint(context.Context, brig.RID) (string, error)      { return "", nil }
func (x *imgTrees) MountVolume(context.Context, brig.RID, brig.VolumeMount) error { return nil }
func (x *imgTrees) UnmountVolume(context.Context, brig.RID) error                 { return nil }

// volumes lists those that are there.
func (x *imgTrees) volumes() []string {
	list, _ := filepath.Glob(x.at("v*"))
	return list
}

// A carried is one step that a test has a session carry out.
type carried struct {
	key, by string
	file    string // name and content of what it makes; "": the config alone
}

// bring carries out steps on a base, or takes them from the cache, as a build does.
func (d *dock) bring(t *testing.T, x *StepSession, base *brig.Base, steps ...carried) (b brig.BuiltImage, cached int) {
	t.Helper()
	b = brig.BuiltImage{Platform: brig.Platform{OS: "linux", Architecture: "amd64"}, Config: brig.ImageConfig{Labels: map[string]string{"built": "yes"}}}
	var chain brig.Digest
	if base != nil {
		b.Base, chain = base.ID, base.Chain
	}
	for _, s := range steps {
		step, err := x.Find(t.Context(), s.key)
		if err != nil {
			t.Fatal(err)
		}
		if step != nil {
			cached++
		} else {
			step = d.carryOut(t, x, s, chain)
		}
		h := brig.BuiltStep{Key: s.key, Created: step.Created, By: s.by, Parent: chain}
		if step.Own {
			h.Chain = step.Chain
		}
		b.Steps, b.Created, chain = append(b.Steps, h), step.Created, step.Chain
	}
	return b, cached
}

func (d *dock) carryOut(t *testing.T, x *StepSession, s carried, parent brig.Digest) *brig.Step {
	t.Helper()
	step := brig.Step{Key: s.key, Created: time.Now().UTC(), By: s.by, Chain: parent}
	if s.file != "" {
		tree, err := x.Clone(t.Context(), parent)
		if err == nil {
			err = os.WriteFile(filepath.Join(tree.Path, s.file), []byte(s.file), 0o600)
		}
		if err == nil {
			step.Chain, step.Size, err = x.Commit(t.Context(), tree)
		}
		if err != nil {
			t.Fatal(err)
		}
		step.Own = step.Chain != parent
	}
	if err := x.Keep(t.Context(), step); err != nil {
		t.Fatal(err)
	}
	return &step
}

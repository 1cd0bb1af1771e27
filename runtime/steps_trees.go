package runtime

import (
	"context"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
	"github.com/brigd/brig/internal/undo"
)

// clone makes a writable clone of a chain and mounts it. Until discard or adopted, Temporary names it.
func (i *Images) clone(ctx context.Context, chain brig.Digest) (_ brig.RID, path string, err error) {
	rid := brig.NewRID() // no result: an error would set that before the undoing
	var u undo.Stack
	defer u.Run(ctx, &err)
	i.mu.Lock()
	i.temporary[rid] = true
	i.mu.Unlock()
	u.Push("remove the tree", func(ctx context.Context) error { return i.discard(ctx, rid) })
	if err := i.Trees.PrepareTree(ctx, rid, chain); err != nil {
		return "", "", err
	}
	fault.Point("tree.made")
	if path, err = i.RootFS.Mount(ctx, rid); err != nil {
		return "", "", err
	}
	u.Release()
	return rid, path, nil
}

// discard removes a clone. It is idempotent.
func (i *Images) discard(ctx context.Context, rid brig.RID) error {
	if err := i.RootFS.Remove(ctx, rid); err != nil {
		return err
	}
	i.forgetTree(rid)
	return nil
}

func (i *Images) forgetTree(rid brig.RID) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.temporary, rid)
}

// Clone makes a writable clone of a chain ("": empty) and mounts it.
func (x *StepSession) Clone(ctx context.Context, chain brig.Digest) (brig.Tree, error) {
	rid, path, err := x.s.i.clone(ctx, chain)
	if err != nil {
		return brig.Tree{}, errs.Wrap(err, "make a tree for a step")
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.trees[rid] = true
	return brig.Tree{ID: rid, Path: path, Parent: chain}, nil
}

// Commit makes what a tree has become a chain, which the session holds; the tree is gone then. size is that of the regular files that came, in bytes.
// If nothing has changed, the chain is the tree's parent.
func (x *StepSession) Commit(ctx context.Context, t brig.Tree) (chain brig.Digest, size int64, err error) {
	i := x.s.i
	chain = brig.Digest("sha256:" + string(brig.NewID()))
	x.mu.Lock()
	x.lease.chain(chain) // before it is there: what nobody holds is dropped
	x.mu.Unlock()
	size, made, err := i.Trees.CommitTree(ctx, t.ID, chain)
	if err != nil {
		return "", 0, errs.Wrap(err, "commit a step")
	}
	i.forgetTree(t.ID)
	x.mu.Lock()
	delete(x.trees, t.ID)
	x.mu.Unlock()
	if !made {
		return t.Parent, 0, nil
	}
	return chain, size, nil
}

// Discard removes a tree. It is idempotent.
func (x *StepSession) Discard(ctx context.Context, t brig.Tree) error {
	if err := x.s.i.discard(ctx, t.ID); err != nil {
		return errs.Wrap(err, "remove the tree of a step")
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.trees, t.ID)
	return nil
}

// View mounts a chain to be read, until the session ends. The same chain is mounted once.
func (x *StepSession) View(ctx context.Context, chain brig.Digest) (path string, err error) {
	x.viewing.Lock()
	defer x.viewing.Unlock()
	x.mu.Lock()
	path, ok := x.views[chain]
	x.mu.Unlock()
	if ok {
		return path, nil
	}
	t, err := x.Clone(ctx, chain)
	if err != nil {
		return "", err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.views[chain] = t.Path
	return t.Path, nil
}

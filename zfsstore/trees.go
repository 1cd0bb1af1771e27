package zfsstore

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// treeDriver makes and destroys root file systems too, turns them into layers, and shows what layers have changed.
type treeDriver interface {
	rootDriver
	// adopt makes the root file system id, which it unmounts, the layer l. It is durable as what layerDriver's commit makes. If nothing differs
	// from the lineage, made is false and the root file system stays. After an error it may be gone.
	adopt(ctx context.Context, id brig.RID, lineage []layer, l layer) (_ layer, made bool, err error)
	// reveal calls use with what the topmost layer changed, and a directory that has all that it added or modified. at and below are names
	// that nobody else uses, for mounts that end with the call.
	reveal(ctx context.Context, at, below brig.RID, lineage []layer, use func(dir string, changes []brig.Change) error) error
}

// PrepareTree is Prepare without a quota for a root file system that nobody misses after a crash, which may be faster to use: what is written
// to it is durable only when CommitTree has made a chain of it and Sync has been called.
func (s *Store) PrepareTree(ctx context.Context, id brig.RID, parent brig.Digest) error {
	s.mu.Lock()
	s.fleeting[id] = true
	s.mu.Unlock()
	err := s.Prepare(ctx, id, parent, 0)
	if err != nil {
		s.mu.Lock()
		if _, ok := s.roots[id]; !ok {
			delete(s.fleeting, id)
		}
		s.mu.Unlock()
	}
	return err
}

// CommitTree makes what a root file system has become a chain of the given name on top of its parent, and takes no longer if it is large. size is that
// of the regular files that it brings, with zfs that of all that is new in it, in bytes. If nothing has changed there is no chain, and made is
// false. The root file system, which nobody may be using, is gone then; after an error it may be. The chain is durable after a Sync.
//
// The name is any digest, not the chain ID of what is in it, which nobody knows as long as nobody has packed it.
//
// Conflict: there is a chain of that name. NotFound: no such root file system.
func (s *Store) CommitTree(ctx context.Context, id brig.RID, chain brig.Digest) (size int64, made bool, err error) {
	if _, err := brig.ParseDigest(string(chain)); err != nil {
		return 0, false, err
	}
	unlock, err := s.lockRoot(ctx, id)
	if err != nil {
		return 0, false, err
	}
	defer unlock()
	free, err := s.lock(ctx, "chain "+string(chain))
	if err != nil {
		return 0, false, err
	}
	defer free()
	if _, ok := s.find(chain); ok {
		return 0, false, errs.New(errs.Conflict, "layer chain %s exists", chain)
	}
	lin, err := s.root(id)
	if err != nil {
		return 0, false, err
	}
	if len(lin) >= maxLayers {
		return 0, false, errs.New(errs.Invalid, "image has more than %d layers, which is what overlayfs can stack", maxLayers)
	}
	l := layer{Chain: chain}
	if len(lin) > 0 {
		l.Parent = lin[0].Chain
	}
	l, made, err = s.d.adopt(ctx, id, lin, l)
	if err == nil && !made {
		err = s.d.remove(ctx, id)
	}
	if err != nil {
		return 0, false, errs.Wrap(err, "commit container dataset %s", id)
	}
	fault.Point("tree.committed")
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.roots, id)
	delete(s.fleeting, id)
	if made {
		s.chains[chain] = l
	}
	return l.Size, made, nil
}

// ReadLayer calls use with what a chain's top layer changed in the one below, sorted by path, and a directory that has all that it added or modified:
// the tree, or a part of it. NotFound: no such chain.
func (s *Store) ReadLayer(ctx context.Context, chain brig.Digest, use func(dir string, changes []brig.Change) error) error {
	lin, unpin, err := s.pin(chain)
	if err != nil {
		return err
	}
	defer unpin()
	if len(lin) == 0 {
		return errs.New(errs.Invalid, "read a layer of nothing")
	}
	at, below := brig.NewRID(), brig.NewRID()
	defer s.begin(at)()
	defer s.begin(below)()
	return errs.Wrap(s.d.reveal(ctx, at, below, lin, use), "read layer chain %s", chain)
}

// regularBytes adds up the regular files among changes in the tree dir; one with several links counts once.
func regularBytes(dir string, changes []brig.Change) (size int64, err error) {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	for _, c := range changes {
		if c.Kind == brig.ChangeDeleted {
			continue
		}
		fi, err := lstat(r, c.Path[1:])
		if err != nil {
			return 0, err
		}
		if fi == nil || fi.Mode()&fs.ModeType != 0 {
			continue
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		if !ok {
			return 0, fmt.Errorf("stat %s: no inode", c.Path)
		}
		if st.Nlink > 1 {
			key := inode{uint64(st.Dev), uint64(st.Ino)}
			if seen[key] {
				continue
			}
			seen[key] = true
		}
		size += fi.Size()
	}
	return size, nil
}

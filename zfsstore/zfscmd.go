package zfsstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/host"
)

// This file is what go-zfs can't do: contexts, snapshots with properties, clones without -p, deferred destruction, and one list
// for all. Options stand before operands: FreeBSD's getopt stops at the first operand.

// The user properties of a snapshot that is a layer. They are set with the snapshot, in one transaction. User properties inherit, so
// propSelf repeats the snapshot's own name: one that came down from elsewhere doesn't match.
const (
	propSelf   = "brig:self" // <rid>@l<n>
	propChain  = "brig:chainid"
	propParent = "brig:parent" // "-" for a lowest layer
	propDiff   = "brig:diffid" // "-" for one that was made of a container
	propSize   = "brig:size"   // bytes
)

// listColumns is what one line of the list holds, in this order.
const listColumns = "name,type,origin,defer_destroy," + propSelf + "," + propChain + "," + propParent + "," + propDiff + "," + propSize

// entry is one line of zfs list.
type entry struct {
	name   string // below the store's dataset: "i/<rid>", "i/<rid>@l1"; "" for the dataset itself
	snap   bool
	origin string // below the store's dataset where it is
	dying  bool   // destroyed, as soon as its last clone goes
	props  [5]string
}

// zfsFaults are the words of zfs(8)'s messages that decide what to do (lib/libzfs/libzfs_dataset.c and libzfs_util.c).
var zfsFaults = []struct {
	words string
	kind  error
}{
	{"dataset does not exist", errGone}, {"could not find any snapshots to destroy", errGone}, {"dataset already exists", errExists},
	{"is busy", errBusy}, {"has dependent clones", errCloned}, {"has children", errCloned},
}

var (
	errGone   = errors.New("no such dataset")
	errExists = errors.New("the dataset exists")
	errBusy   = errors.New("dataset is busy")
	errCloned = errors.New("something was cloned from it")
)

// zfsError marks a failed command with what its message means.
func zfsError(err error) error {
	var h *host.Error
	if err == nil || !errors.As(err, &h) {
		return err
	}
	for _, f := range zfsFaults {
		if strings.Contains(h.Stderr, f.words) {
			return fmt.Errorf("%w: %w", f.kind, err)
		}
	}
	return err
}

func zfs(ctx context.Context, args ...string) error {
	_, err := host.Run(ctx, append([]string{"zfs"}, args...)...)
	return zfsError(err)
}

// zfsRetry repeats a command while the dataset is busy, for about two seconds: unmounting ends a little later than umount(2) returns.
func zfsRetry(ctx context.Context, args ...string) error {
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		err := zfs(ctx, args...)
		if !errors.Is(err, errBusy) || wait > time.Second {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
	}
}

// zfsList reads all datasets and snapshots beneath parent with one command.
func zfsList(ctx context.Context, parent string) ([]entry, error) {
	out, err := host.Run(ctx, "zfs", "list", "-H", "-p", "-r", "-t", "filesystem,snapshot", "-o", listColumns, parent)
	if err != nil {
		return nil, zfsError(err)
	}
	return parseList(parent, out)
}

// parseList reads zfs list -Hp: one line each, columns separated by one tab, "-" for none (zfs-list(8)).
func parseList(parent string, out []byte) ([]entry, error) {
	var list []entry
	for line := range bytes.Lines(out) {
		f := strings.Split(strings.TrimSuffix(string(line), "\n"), "\t")
		if len(f) != 9 {
			return nil, fmt.Errorf("zfs list: %d columns in %q, want 9", len(f), line)
		}
		if f[0] != parent && !strings.HasPrefix(f[0], parent+"/") && !strings.HasPrefix(f[0], parent+"@") {
			return nil, fmt.Errorf("zfs list: %q is not beneath %q", f[0], parent)
		}
		e := entry{
			name: strings.TrimPrefix(strings.TrimPrefix(f[0], parent), "/"), snap: f[1] == "snapshot",
			origin: strings.TrimPrefix(f[2], parent+"/"), dying: f[3] == "on",
		}
		copy(e.props[:], f[4:])
		list = append(list, e)
	}
	return list, nil
}

// layer returns the layer that a snapshot commits; ok is false for all else, foreign snapshots among them.
func (e *entry) layer() (l layer, ok bool) {
	rid, snap, isSnap := strings.Cut(strings.TrimPrefix(e.name, "i/"), "@")
	self, chain, parent, diff, size := e.props[0], e.props[1], e.props[2], e.props[3], e.props[4]
	if !isSnap || e.dying || !strings.HasPrefix(e.name, "i/") || self != rid+"@"+snap || !brig.RID(rid).Valid() {
		return layer{}, false
	}
	n, err := strconv.Atoi(strings.TrimPrefix(snap, "l"))
	bytes, err2 := strconv.ParseInt(size, 10, 64)
	if err != nil || err2 != nil || !strings.HasPrefix(snap, "l") {
		return layer{}, false
	}
	if parent == "-" {
		parent = ""
	}
	if _, err := brig.ParseDigest(chain); err != nil {
		return layer{}, false
	}
	if _, err := brig.ParseDigest(diff); err != nil && diff != "-" {
		return layer{}, false
	}
	diff = strings.TrimPrefix(diff, "-")
	return layer{Chain: brig.Digest(chain), Parent: brig.Digest(parent), Diff: brig.Digest(diff), Size: bytes, RID: brig.RID(rid), Snap: n}, true
}

// inventory is what a list means.
type inventory struct {
	layers []layer
	roots  map[brig.RID]brig.Digest
	sets   map[string][]brig.RID // by kind: i, c, v
}

// take sorts a list into an inventory. A container stands on the layer that is its dataset's origin.
func take(list []entry) inventory {
	inv := inventory{roots: map[brig.RID]brig.Digest{}, sets: map[string][]brig.RID{}}
	bySnap := map[string]brig.Digest{}
	for i := range list {
		if l, ok := list[i].layer(); ok {
			inv.layers = append(inv.layers, l)
			bySnap[list[i].name] = l.Chain
		}
	}
	for _, e := range list {
		kind, name, ok := strings.Cut(e.name, "/")
		rid := brig.RID(name)
		if e.snap || !ok || !rid.Valid() {
			continue
		}
		inv.sets[kind] = append(inv.sets[kind], rid)
		if kind == "c" {
			inv.roots[rid] = bySnap[e.origin]
		}
	}
	return inv
}

// layerProps are the arguments that make a snapshot a layer.
func layerProps(l layer) []string {
	parent, diff := cmp.Or(string(l.Parent), "-"), cmp.Or(string(l.Diff), "-")
	return []string{
		"-o", fmt.Sprintf("%s=%s@l%d", propSelf, l.RID, l.Snap), "-o", propChain + "=" + string(l.Chain), "-o", propParent + "=" + parent,
		"-o", propDiff + "=" + diff, "-o", fmt.Sprintf("%s=%d", propSize, l.Size),
	}
}

func needZFS(err error) error {
	return errs.New(errs.Unavailable, "zfs can't be used: %w", err)
}

//go:build faults

package zfsstore

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
)

// These tests kill a process of its own at each point that internal/fault marks in a life of layers, a container and a volume, open the
// store again, sweep it, and look at what is there. They need the build tag faults.

// life is what the child does: its journal has "+NAME" once a step has been acknowledged, as records are written after the store, and
// "-NAME" before a removal, as records are deleted before.
type life struct {
	Config  Config
	Journal string
}

var (
	lifeRoot, lifeVolume = brig.RID("00000000000000aa"), brig.RID("00000000000000bb")
	lifeTree             = brig.RID("00000000000000cc")
	lifeEntries          = map[string]string{"A": "f one 1", "B": "f two 2", "C": "f three 3"}
	lifeLayers           = map[string][]byte{"A": tarball("f one 1"), "B": tarball("f two 2"), "C": tarball("f three 3")}
)

// chainOf is the chain of a letter: B and C stand on A, and D, which is made of a tree, on B.
func chainOf(name string) (parent, chain, diff brig.Digest) {
	if name == "D" {
		_, parent, _ = chainOf("B")
		return parent, brig.DigestOf([]byte("D")), ""
	}
	diff = brig.DigestOf(lifeLayers[name])
	if name != "A" {
		_, parent, _ = chainOf("A")
	}
	return parent, brig.ChainID(parent, diff), diff
}

func parentOf(name string) brig.Digest { parent, _, _ := chainOf(name); return parent }

// TestLifeChild is the child; in all other runs it does nothing.
func TestLifeChild(t *testing.T) {
	arg := os.Getenv("BRIG_FAULT_CHILD")
	if arg == "" {
		t.Skip("it is the child of TestKilledBetweenSteps")
	}
	var l life
	if err := json.Unmarshal([]byte(arg), &l); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), l.Config)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.live(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func (l *life) live(ctx context.Context, s *Store) error {
	j, err := os.OpenFile(l.Journal, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer j.Close()
	step := func(name string, do func() error) {
		if err != nil {
			return
		}
		if strings.HasPrefix(name, "-") {
			fmt.Fprintln(j, name)
		}
		if err = do(); err == nil && strings.HasPrefix(name, "+") {
			fmt.Fprintln(j, name)
		}
	}
	for _, name := range []string{"A", "B", "C"} {
		step("+"+name, func() error {
			parent, chain, diff := chainOf(name)
			if _, err := s.Apply(ctx, parent, chain, diff, bytes.NewReader(lifeLayers[name]), nil); err != nil {
				return err
			}
			return s.Sync(ctx)
		})
	}
	_, b, _ := chainOf("B")
	step("+D", func() error {
		if err := s.PrepareTree(ctx, lifeTree, b); err != nil {
			return err
		}
		p, err := s.Mount(ctx, lifeTree)
		if err == nil {
			err = os.WriteFile(filepath.Join(p, "four"), []byte("4"), 0o600)
		}
		_, chain, _ := chainOf("D")
		if err == nil {
			_, _, err = s.CommitTree(ctx, lifeTree, chain)
		}
		if err != nil {
			return err
		}
		return s.Sync(ctx)
	})
	step("+root", func() error { return s.Prepare(ctx, lifeRoot, b, 0) })
	step("", func() error {
		p, err := s.Mount(ctx, lifeRoot)
		if err == nil {
			err = os.WriteFile(filepath.Join(p, "own"), []byte("own"), 0o600)
		}
		return err
	})
	step("", func() error { return s.Unmount(ctx, lifeRoot) })
	step("", func() error { _, err := s.Mount(ctx, lifeRoot); return err })
	step("+volume", func() error { _, err := s.MakeVolume(ctx, lifeVolume, 0); return err })
	step("-root", func() error { return s.Remove(ctx, lifeRoot) })
	step("-volume", func() error { return s.RemoveVolume(ctx, lifeVolume) })
	for _, name := range []string{"D", "C", "B", "A"} {
		step("-"+name, func() error { _, chain, _ := chainOf(name); return s.Drop(ctx, chain) })
	}
	return err
}

// runChild runs the life in a process of its own on b's store, which is closed meanwhile, and opens the store again.
func (b *bench) runChild(dir string, env ...string) (killed bool, journal []string) {
	b.t.Helper()
	b.check(b.Close())
	b.Store = nil
	l := life{b.cfg, filepath.Join(dir, "journal")}
	arg, err := json.Marshal(l)
	b.check(err)
	cmd := exec.Command(os.Args[0], "-test.run=^TestLifeChild$", "-test.count=1")
	cmd.Env = append(append(os.Environ(), "BRIG_FAULT_CHILD="+string(arg)), env...)
	out, err := cmd.CombinedOutput()
	killed = !cmd.ProcessState.Exited()
	b.reopen()
	if err != nil && !killed {
		b.t.Fatalf("the child: %v\n%s", err, out)
	}
	text, _ := os.ReadFile(l.Journal)
	return killed, strings.Fields(string(text))
}

// passes lists the points of one undisturbed life, each with the number of its passing.
func (b *bench) passes(dir string) (out []string) {
	b.t.Helper()
	file := filepath.Join(dir, "points")
	if killed, journal := b.runChild(dir, "BRIG_FAULT_LOG="+file); killed || len(journal) != 12 {
		b.t.Fatalf("an undisturbed life: killed %v, %v", killed, journal)
	}
	text, err := os.ReadFile(file)
	b.check(err)
	n := map[string]int{}
	for _, name := range strings.Fields(string(text)) {
		n[name]++
		out = append(out, fmt.Sprintf("%s:%d", name, n[name]))
	}
	return out
}

func TestKilledBetweenSteps(t *testing.T) {
	for _, driver := range []string{"copy", "overlay", "zfs"} {
		if driver == "overlay" && !hasOverlay || (driver == "zfs") != (zfsPool() != "") {
			continue // where there is a pool, which is slow, zfs alone: the others have been tried elsewhere
		}
		var points []string
		on(t, func(t *testing.T, b *bench) { b.t = t; points = b.passes(t.TempDir()) }, driver)
		t.Logf("%s: %d points: %s", driver, len(points), strings.Join(points, " "))
		if len(points) < 20 {
			t.Errorf("%s: only %d points were passed", driver, len(points))
		}
		for _, point := range points {
			t.Run(point, func(t *testing.T) {
				on(t, func(t *testing.T, b *bench) {
					b.t = t
					killed, journal := b.runChild(t.TempDir(), "BRIG_FAULT="+point)
					if !killed {
						t.Fatal("the child was not killed")
					}
					b.checkLife(journal)
				}, driver)
			})
		}
	}
}

// checkLife sweeps what the journal doesn't name as living, and compares what is left.
func (b *bench) checkLife(journal []string) {
	b.t.Helper()
	ctx := context.Background()
	alive := map[string]bool{}
	for _, line := range journal {
		alive[line[1:]] = line[0] == '+'
	}
	var live brig.Live
	for _, name := range []string{"A", "B", "C", "D"} {
		if _, chain, _ := chainOf(name); alive[name] {
			live.Chains = append(live.Chains, chain)
		}
	}
	if alive["root"] {
		live.Containers = []brig.RID{lifeRoot}
	}
	if alive["volume"] {
		live.Volumes = []brig.RID{lifeVolume}
	}
	b.check(b.Sweep(ctx, live))
	b.reopen() // what counts is on disk
	for _, name := range []string{"A", "B", "C", "D"} {
		_, chain, _ := chainOf(name)
		if has, err := b.Has(ctx, chain); has != alive[name] || err != nil {
			b.t.Errorf("layer %s: there %v, %v, want %v; journal %v", name, has, err, alive[name], journal)
		} else if has {
			b.wantTree("layer "+name, chain, map[string]string{"A": "one", "B": "one two", "C": "one three", "D": "four one two"}[name])
		}
	}
	b.checkRest(live, journal)
	if alive["root"] {
		p, err := b.Mount(ctx, lifeRoot)
		if _, e := os.Stat(filepath.Join(p, "two")); err != nil || e != nil {
			b.t.Errorf("the container: %v, %v; journal %v", err, e, journal)
		}
		b.check(b.Unmount(ctx, lifeRoot))
	}
	// All of it can be done again.
	b.check(b.Sweep(ctx, brig.Live{}))
	for _, name := range []string{"A", "B", "C"} {
		if got := b.add(parentOf(name), lifeEntries[name]); b.t.Failed() {
			b.t.Errorf("again: layer %s is %s; journal %v", name, got, journal)
		}
	}
}

// checkRest looks for what nothing names: in the directories, among the datasets and the mounts.
func (b *bench) checkRest(live brig.Live, journal []string) {
	b.t.Helper()
	want := map[string]int{"c": len(live.Containers), "v": len(live.Volumes), "l": len(live.Chains)}
	if b.cfg.Driver == "zfs" {
		want = map[string]int{"v": len(live.Volumes)}
		list, err := zfsList(context.Background(), b.cfg.ZFSParent)
		b.check(err)
		var names []string
		for _, e := range list {
			if kind, rid, ok := strings.Cut(e.name, "/"); ok && (e.snap || kind != "i" && rid != "") {
				names = append(names, e.name)
			}
		}
		if n := len(live.Chains) + len(live.Containers) + len(live.Volumes); len(names) != n {
			b.t.Errorf("%d snapshots, containers and volumes, want %d: %v; journal %v", len(names), n, names, journal)
		}
		for _, rid := range take(list).sets["i"] {
			if !slices.ContainsFunc(names, func(s string) bool { return strings.HasPrefix(s, "i/"+string(rid)+"@") }) {
				b.t.Errorf("image dataset %s has no layer; journal %v", rid, journal)
			}
		}
	}
	for _, kind := range []string{"l", "c", "v", "w", "mnt"} {
		list, err := os.ReadDir(filepath.Join(b.cfg.Root, kind))
		if kind == "mnt" && len(live.Containers) == 1 {
			continue // its mount is the container's own
		}
		if err != nil || len(list) != want[kind] {
			b.t.Errorf("%s/ has %q, %v, want %d; journal %v", kind, names1(list), err, want[kind], journal)
		}
	}
}

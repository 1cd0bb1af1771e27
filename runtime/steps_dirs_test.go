package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
)

func TestCacheDirs(t *testing.T) {
	d := newDock(t)
	x, y := d.session(t), d.session(t)
	again := func(string) error { return errors.New("it is filled again") }
	failed := ""
	_, _, err := x.Dir(t.Context(), "apt", false, func(dir string) error {
		failed = dir
		return errors.Join(os.WriteFile(filepath.Join(dir, "half"), nil, 0o600), errors.New("the disk is full"))
	})
	if _, e := os.Stat(failed); err == nil || !strings.Contains(err.Error(), "the disk is full") || e == nil {
		t.Errorf("what could not be filled: %v, and %q is left", err, failed)
	}
	filling, fill := make(chan string), make(chan bool)
	early := make(chan error)
	go func() { // while it is filled nobody has it
		path := <-filling
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, _, err := y.Dir(ctx, "apt", false, again)
		os.WriteFile(filepath.Join(path, "f"), []byte("12345"), 0o600)
		close(fill)
		early <- err
	}()
	path, release, err := x.Dir(t.Context(), "apt", false, func(dir string) error {
		filling <- dir
		<-fill
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-early; err == nil {
		t.Error("somebody had it before it was filled")
	}
	if got, _, err := y.Dir(t.Context(), "apt", false, again); err != nil || got != path {
		t.Errorf("shared: %q, %v", got, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := y.Dir(ctx, "apt", true, again); err == nil {
		t.Error("alone beside others")
	}
	got := make(chan error)
	go func() {
		_, _, err := y.Dir(t.Context(), "apt", true, again)
		got <- err
	}()
	if pruned, err := d.steps.PruneBuilds(t.Context(), brig.BuildPruneRequest{All: true}); len(pruned.IDs) != 0 || err != nil {
		t.Errorf("pruned in use: %+v, %v", pruned, err)
	}
	release()
	release()
	y.mu.Lock()
	for u := range y.dirs {
		go u.release() // y's own, shared
	}
	y.mu.Unlock()
	if err := <-got; err != nil {
		t.Error(err)
	}
	y.End(t.Context())
	x.End(t.Context())
	d.shut()
	d.open(t)
	if v := d.steps.CacheVolumes(); len(v) != 1 {
		t.Errorf("volumes %v", v)
	}
	x = d.session(t)
	if got, _, err := x.Dir(t.Context(), "apt", true, again); err != nil || got != path {
		t.Errorf("after a restart: %q, %v", got, err)
	}
	x.End(t.Context())
	list, err := d.steps.BuildCache(t.Context())
	if err != nil || len(list) != 1 || list[0].Type != brig.BuildCacheDir || list[0].Size != 5 || list[0].Count != 4 {
		t.Errorf("%+v, %v", list, err)
	}
	if pruned, err := d.steps.PruneBuilds(t.Context(), brig.BuildPruneRequest{}); len(pruned.IDs) != 1 || pruned.Freed != 5 || err != nil {
		t.Errorf("%+v, %v", pruned, err)
	}
	if len(d.trees.volumes()) != 0 || len(d.steps.CacheVolumes()) != 0 {
		t.Errorf("%v, %v", d.trees.volumes(), d.steps.CacheVolumes())
	}
	d.bare(t)
}

package main

import (
	"context"
	"log/slog"
	goruntime "runtime"

	"github.com/brigd/brig/build"
	"github.com/brigd/brig/convert"
	"github.com/brigd/brig/dockerapi"
	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/buildcontext"
	brt "github.com/brigd/brig/runtime"
)

var (
	_ build.Session      = (*brt.StepSession)(nil)
	_ build.Workshop     = workshop{}
	_ dockerapi.Contexts = (*buildcontext.Contexts)(nil)
	_ dockerapi.Caches   = (*brt.Steps)(nil)
	_ dockerapi.Builds   = (*build.Builder)(nil)
)

// workshop makes a session what build calls one: runtime doesn't know that package's interfaces.
type workshop struct{ *brt.Steps }

// Begin begins a session.
func (w workshop) Begin(ctx context.Context) (build.Session, error) {
	s, err := w.Steps.Begin(ctx)
	if err != nil {
		return nil, err // and no session, rather than one of a nil pointer
	}
	return s, nil
}

// openBuilds makes what builds need beside the cache.
func (e *engine) openBuilds(log *slog.Logger) (err error) {
	e.contexts, err = buildcontext.Open(buildcontext.Config{
		Dir: e.root.path("contexts"), Memory: memoryDir(e.root.instance), Decompress: convert.New().Decompress, Download: e.registry.Download, Log: log,
	})
	if err != nil {
		return err
	}
	e.closers = append(e.closers, e.contexts.Close)
	e.builder = build.New(build.Config{
		Workshop: workshop{e.steps}, Runner: e.containers, Archives: convert.New(), Temp: e.root.path("contexts"), Log: log,
		Host: brig.Platform{OS: goruntime.GOOS, Architecture: goruntime.GOARCH},
	})
	return nil
}

// Command brig-mds is the appc metadata service of an instance. brigd starts it, as root; it gives that up before it serves, and goes on
// while brigd is down. It takes no settings from a person.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/brigd/brig/internal/survivor"
	"github.com/brigd/brig/metadata"
)

// version is set by the Makefile.
var version = "dev"

func main() {
	o, ok := metadata.ParseOptions(os.Args[1:])
	if !ok {
		os.Stderr.WriteString("brig-mds is started by brigd, not by hand\n")
		os.Exit(2)
	}
	survivor.Shed()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(slog.NewTextHandler(survivor.BoundedLog(os.Stderr), nil)).With("version", version, "pid", os.Getpid())
	if err := survivor.Prefer(); err != nil {
		log.Warn("the kernel may end this process as early as any other when memory is short", "err", err)
	}
	if err := metadata.Run(ctx, o, log); err != nil {
		log.Error("brig-mds can't serve", "err", err)
		os.Exit(1)
	}
}

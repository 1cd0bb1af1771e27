// Command brig-net goes on while brigd is down: DNS of containers, relays of ports, ports that are held. brigd starts it; it takes
// no settings from a person.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/brigd/brig/internal/survivor"
	"github.com/brigd/brig/network/keeper"
)

// version is set by the Makefile.
var version = "dev"

func main() {
	if len(os.Args) != 3 || os.Args[1] != survivor.DirFlag {
		os.Stderr.WriteString("brig-net is started by brigd, not by hand\n")
		os.Exit(2)
	}
	survivor.Shed()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := slog.New(slog.NewTextHandler(survivor.BoundedLog(os.Stderr), nil)).With("version", version, "pid", os.Getpid())
	if err := survivor.Prefer(); err != nil {
		log.Warn("the kernel may end this process as early as any other when memory is short", "err", err)
	}
	if err := keeper.Run(ctx, os.Args[2], log); err != nil {
		log.Error("brig-net can't serve", "err", err)
		os.Exit(1)
	}
}

// Mkimage pushes the tests' images to a registry: mkimage [-debian CACHE] HOST:PORT.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/brigd/brig/integration/internal/images"
)

func main() {
	cache := flag.String("debian", "", "also make Debian's image, cached in `DIR`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *cache, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, cache, registry string) error {
	if registry == "" {
		return fmt.Errorf("which registry? mkimage [-debian CACHE] HOST:PORT")
	}
	set, err := images.Build()
	if err != nil {
		return err
	}
	if cache != "" {
		if set["debian:latest"], err = images.Debian(ctx, cache, os.Stderr); err != nil {
			return err
		}
	}
	return set.Push(ctx, registry, nil)
}

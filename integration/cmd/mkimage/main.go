// Mkimage pushes the tests' images to a registry: mkimage [-debian CACHE] [-bench CACHE] [-services CACHE] HOST:PORT. Without a registry it only fills the caches.
// With -save it writes the images of services for a host without Debian's packages, which BRIG_TEST_SERVICES tells of the folder.
package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"

	"github.com/brigd/brig/integration/internal/images"
)

func main() {
	cache := flag.String("debian", "", "also make Debian's image, cached in `DIR`")
	bench := flag.String("bench", "", "also make the images of the benchmarks, many (65 layers) and large (900 MB), cached in `DIR`")
	services := flag.String("services", "", "also make the images of services, postgres, redis, nginx and memcached, cached in `DIR`")
	save := flag.String("save", "", "write the images of services, and nothing else, into `DIR`, an OCI image layout")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *save != "" {
		err = saveServices(ctx, *services, *save)
	} else {
		err = run(ctx, *cache, *bench, *services, flag.Arg(0))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}

func saveServices(ctx context.Context, cache, dir string) error {
	if cache == "" {
		return fmt.Errorf("-save needs -services CACHE")
	}
	set, err := images.Services(ctx, cache, os.Stderr)
	if err != nil {
		return err
	}
	return set.Save(dir)
}

func run(ctx context.Context, cache, bench, services, registry string) error {
	if registry == "" && cache == "" && bench == "" && services == "" {
		return fmt.Errorf("which registry? mkimage [-debian CACHE] [-bench CACHE] [-services CACHE] HOST:PORT")
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
	if bench != "" {
		if set["many:latest"], err = images.Many(ctx, bench, os.Stderr); err != nil {
			return err
		}
		if set["large:latest"], err = images.Large(ctx, bench, os.Stderr); err != nil {
			return err
		}
	}
	if services != "" {
		more, err := images.Services(ctx, services, os.Stderr)
		if err != nil {
			return err
		}
		maps.Copy(set, more)
	}
	if registry == "" {
		return nil
	}
	return set.Push(ctx, registry, nil)
}

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
)

// A step is something done on one server.
type step func(ctx context.Context, s *server) error

// A task is what is timed, do, and what has to be done before and after it each time, and before and after all of it.
type task struct {
	name                string
	size                size
	setup, before, do   step
	after, end          step
	fill                step   // done once setup is
	archiver, archiveOf string // load: the server that writes the archive, and of which image
	archive             string // its path
	bare                bool   // without the docker command, whose own time is not taken off then
}

// size says how often a task is timed.
type size int

const (
	short  size = iota // milliseconds
	middle             // seconds
	long               // tens of seconds
)

// docker is a docker command that must succeed.
func docker(args ...string) step {
	return func(ctx context.Context, s *server) error {
		if r := s.cli.Run(ctx, nil, args...); r.Code != 0 {
			return errors.New(r.String())
		}
		return nil
	}
}

// absent removes an image if it is there.
func absent(image string) step {
	return func(ctx context.Context, s *server) error {
		if s.cli.Run(ctx, nil, "image", "inspect", image).Code != 0 {
			return nil
		}
		return docker("rmi", image)(ctx, s)
	}
}

func remove(path string) step {
	return func(context.Context, *server) error { return os.Remove(path) }
}

// tasks lists what is compared; archives is a folder for files.
func tasks(registry, archives string) []task {
	ref := func(name string) string { return registry + "/" + name + ":latest" }
	out := containerTasks(ref("busybox"))
	for _, i := range []struct {
		name, says string
		size       size
	}{{"debian", "debian", middle}, {"many", "65 layers", middle}, {"large", "large", long}} {
		out = append(out, task{name: "pull " + i.says, size: i.size, setup: absent(ref(i.name)), do: docker("pull", "-q", ref(i.name)), after: docker("rmi", ref(i.name))})
	}
	for _, i := range []struct {
		name string
		size size
	}{{"debian", middle}, {"large", long}} {
		file := filepath.Join(archives, "saved.tar")
		out = append(out, task{name: "save " + i.name, size: i.size, setup: docker("pull", "-q", ref(i.name)), do: docker("save", "-o", file, ref(i.name)),
			after: remove(file), end: docker("rmi", ref(i.name))})
		for _, by := range []string{"brigd", "dockerd"} {
			file := filepath.Join(archives, i.name+"-"+by+".tar")
			out = append(out, task{name: "load " + i.name + " as saved by " + by, size: i.size, setup: absent(ref(i.name)), do: docker("load", "-q", "-i", file),
				after: docker("rmi", ref(i.name)), archiver: by, archiveOf: ref(i.name), archive: file})
		}
	}
	return out
}

const container = "brig-bench"

func containerTasks(busybox string) []task {
	create := docker("create", "--name", container, busybox, "sleep", "600")
	running := docker("run", "-d", "--name", container, busybox, "sleep", "600")
	rm := docker("rm", "-f", container)
	out := []task{
		{name: "run --rm IMAGE true", do: docker("run", "--rm", busybox, "true")},
		{name: "run --rm --network none IMAGE true", do: docker("run", "--rm", "--network", "none", busybox, "true")},
		{name: "create", do: create, after: rm},
		{name: "start", before: create, do: docker("start", container), after: rm},
		{name: "exec true", before: running, do: docker("exec", container, "true"), after: rm},
		{name: "rm -f of a running one", before: running, do: rm},
		{name: "20 run --rm at once", size: middle, do: together(20, docker("run", "--rm", busybox, "true"))},
	}
	out = append(out, apiTasks(busybox)...)
	for i := range out {
		out[i].setup = docker("pull", "-q", busybox)
	}
	return out
}

// together does a step n times at once.
func together(n int, do step) step {
	return func(ctx context.Context, s *server) error {
		var all sync.WaitGroup
		failed := make([]error, n)
		for i := range n {
			all.Go(func() { failed[i] = do(ctx, s) })
		}
		all.Wait()
		return errors.Join(failed...)
	}
}

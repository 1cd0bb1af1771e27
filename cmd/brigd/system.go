package main

import (
	"context"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brigd/brig/dockerapi"
	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/config"
	"github.com/brigd/brig/internal/errs"
)

// system tells dockerapi what this brigd and its host are.
type system struct {
	e     *engine
	c     config.Config
	facts facts
}

func newSystem(e *engine, c config.Config) *system { return &system{e, c, hostFacts()} }

// Info asks memory and two files under /proc: no process is started.
func (s *system) Info(ctx context.Context) (dockerapi.SystemInfo, error) {
	jail := s.e.jails.Facts()
	out := dockerapi.SystemInfo{
		ID: s.e.root.instance, Name: s.facts.name, Root: s.c.Root, ServerVersion: version,
		KernelVersion: s.facts.kernel, OperatingSystem: s.facts.os, OSVersion: s.facts.osVersion,
		OSType: goruntime.GOOS, Architecture: s.facts.machine, NCPU: goruntime.NumCPU(), MemTotal: s.facts.memory,
		CgroupDriver: jail.CgroupDriver, CgroupVersion: jail.CgroupVersion,
		MemoryLimit: jail.MemoryLimit, SwapLimit: jail.SwapLimit, CPUCfsPeriod: jail.CPUCfsPeriod, CPUCfsQuota: jail.CPUCfsQuota,
		CPUShares: jail.CPUShares, CPUSet: jail.CPUSet, PidsLimit: jail.PidsLimit, OomKillDisable: jail.OomKillDisable,
		IPv4Forwarding: forwarding(), DefaultRuntime: jail.RuntimeName, RuntimeVersion: jail.RuntimeVersion,
		Runtimes: map[string]string{jail.RuntimeName: jail.RuntimePath}, SecurityOptions: jail.SecurityOptions,
		InsecureRegistries: append([]string{"::1/128", "127.0.0.0/8"}, s.c.InsecureRegistries...),
		LogDriver:          s.c.LogDriver,
		Debug:              s.c.LogLevel == "debug", NFd: openFiles(), NGoroutines: goruntime.NumGoroutine(), Warnings: slices.Concat(jail.Warnings, s.e.networks.Notes(), s.e.metadata.Notes()),
	}
	out.Driver, out.DriverStatus = s.e.store.Driver()
	out.GitCommit, out.BuildTime = commit()
	return out, s.count(ctx, &out)
}

// count fills in how many containers and images there are.
func (s *system) count(ctx context.Context, out *dockerapi.SystemInfo) error {
	out.Info = s.e.containers.Count()
	images, err := s.e.images.ImageList(ctx)
	out.Images = len(images)
	return err
}

// CheckAuth tries a login.
func (s *system) CheckAuth(ctx context.Context, server string, auth brig.Auth) (string, error) {
	return s.e.registry.CheckAuth(ctx, server, auth)
}

// Free asks the file system that the root is on.
func (s *system) Free(context.Context) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.c.Root, &st); err != nil {
		return 0, errs.Wrap(err, "look how much room %s has", s.c.Root)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// Publish sends an event to whoever listens.
func (s *system) Publish(e brig.Event) { s.e.bus.Publish(e) }

// Events hands on what the bus has.
func (s *system) Events(ctx context.Context, since, until time.Time, ready func(), each func(brig.Event) error) error {
	return s.e.bus.Events(ctx, since, until, ready, each)
}

// shimPath finds brig-shim: as configured, or like any of brig's programs.
func shimPath(configured string) string {
	if configured != "" {
		return configured
	}
	return companion("brig-shim")
}

// companion finds a program that belongs to this one: beside it, as make build leaves them, in ../libexec/brig from there, as make install
// does, or in PATH. It gives the name alone if it is nowhere.
func companion(name string) string {
	if self, err := os.Executable(); err == nil {
		dir := filepath.Dir(self)
		for _, p := range []string{filepath.Join(dir, name), filepath.Join(filepath.Dir(dir), "libexec", "brig", name)} {
			if isFile(p) {
				return p
			}
		}
	}
	if p := lookFor(name); p != "" {
		return p
	}
	return name
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

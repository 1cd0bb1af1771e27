package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	goruntime "runtime"
	"time"

	"github.com/brigd/brig/build"
	"github.com/brigd/brig/convert"
	"github.com/brigd/brig/dockerapi"
	"github.com/brigd/brig/internal/blobs"
	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/buildcontext"
	"github.com/brigd/brig/internal/config"
	"github.com/brigd/brig/internal/discovery"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/journal"
	"github.com/brigd/brig/internal/metrics"
	"github.com/brigd/brig/internal/records"
	"github.com/brigd/brig/internal/trust"
	"github.com/brigd/brig/jailer"
	"github.com/brigd/brig/metadata"
	"github.com/brigd/brig/network"
	"github.com/brigd/brig/network/keeper"
	"github.com/brigd/brig/registry"
	brt "github.com/brigd/brig/runtime"
	"github.com/brigd/brig/zfsstore"
)

// Each seam and an implementation that fits it.
var (
	_ brt.RootFS     = (*zfsstore.Store)(nil)
	_ brt.Layers     = (*zfsstore.Store)(nil)
	_ brt.Syncer     = (*zfsstore.Store)(nil)
	_ brt.VolumeData = (*zfsstore.Store)(nil)
	_ brt.Leftovers  = (*zfsstore.Store)(nil)
	_ brt.Trees      = (*zfsstore.Store)(nil)
	_ brt.Jails      = (*jailer.Jailer)(nil)
	_ brt.Processes  = (*jailer.Jailer)(nil)
	_ brt.Terminals  = (*jailer.Jailer)(nil)
	_ brt.Freezer    = (*jailer.Jailer)(nil)
	_ brt.Gauge      = (*jailer.Jailer)(nil)
	_ brt.Limiter    = (*jailer.Jailer)(nil)
	_ brt.Host       = (*jailer.Jailer)(nil)
	_ brt.Sandboxes  = (*jailer.Jailer)(nil)
	_ brt.Networks   = (*network.Networks)(nil)
	_ brt.Records    = (*records.Store)(nil)
	_ brt.Registry   = (*registry.Registry)(nil)
	_ brt.Pusher     = (*registry.Registry)(nil)
	_ brt.Downloader = (*registry.Registry)(nil)
	_ brt.ACISource  = (*brt.Images)(nil)
	_ brt.Converter  = (*convert.Converter)(nil)
	_ brt.Archives   = (*convert.Converter)(nil)
	_ brt.ACIs       = (*convert.Converter)(nil)
	_ brt.ACIWeb     = (*discovery.Client)(nil)
	_ brt.ACIMaker   = (*convert.Converter)(nil)
	_ brt.Runner     = (*brt.Containers)(nil)
	_ brt.ImageMaker = (*brt.Images)(nil)
	_ brt.Journal    = (*journal.Journal)(nil)
	_ brt.Observer   = (*metrics.Metrics)(nil)
	_ network.Keeper = (*keeper.Client)(nil)
	_ brt.Identities = (*metadata.Publisher)(nil)

	_ brt.ImageDocuments = (*brt.Images)(nil)

	_ brt.Memberships = (*network.Networks)(nil)

	_ dockerapi.Containers = (*brt.Containers)(nil)
	_ dockerapi.Lifecycle  = (*brt.Containers)(nil)
	_ dockerapi.Freezer    = (*brt.Containers)(nil)
	_ dockerapi.Meter      = (*brt.Containers)(nil)
	_ dockerapi.Updates    = (*brt.Containers)(nil)
	_ dockerapi.Terminals  = (*brt.Containers)(nil)
	_ dockerapi.Execs      = (*brt.Containers)(nil)
	_ dockerapi.Files      = (*brt.Containers)(nil)
	_ dockerapi.Volumes    = (*brt.Containers)(nil)
	_ dockerapi.Commits    = (*brt.Containers)(nil)
	_ dockerapi.Images     = (*brt.Images)(nil)
	_ dockerapi.Transfers  = (*brt.Images)(nil)
	_ dockerapi.ACIs       = (*brt.Images)(nil)
	_ dockerapi.Trust      = (*trusting)(nil)
	_ dockerapi.ACIBuilds  = (*brt.ACIBuilder)(nil)
	_ dockerapi.Networks   = (*network.Networks)(nil)
	_ dockerapi.System     = (*system)(nil)

	_ dockerapi.Memberships  = (*brt.Containers)(nil)
	_ dockerapi.Housekeeping = (*housekeeper)(nil)
	_ dockerapi.Pods         = (*brt.Containers)(nil)
	_ dockerapi.PodLifecycle = (*brt.Containers)(nil)
	_ dockerapi.Identities   = (*metadata.Publisher)(nil)
	_ dockerapi.Identities   = unidentified{}
)

// busSize is how many past events docker events --since can see, also those of former processes on the same root.
const busSize = 1024

// engine is all parts of one brigd, wired. Parts are closed in the reverse order of their making.
type engine struct {
	root       *root
	records    *records.Store
	store      *zfsstore.Store
	jails      *jailer.Jailer
	networks   *network.Networks
	registry   *registry.Registry
	bus        *brt.Bus
	trust      *trusting
	images     *brt.Images
	steps      *brt.Steps
	containers *brt.Containers
	contexts   *buildcontext.Contexts
	builder    *build.Builder
	metrics    *metrics.Metrics    // nil where nobody asked for them
	metadata   *metadata.Publisher // nil where it is off
	platforms  []brig.Platform     // of images that nobody asks a platform for
	ruleset    int                 // devfs-ruleset
	modules    bool                // load-modules
	bad        []brig.BadRecord    // that can't be loaded, when brigd started; the housekeeper's from then on
	closers    []func() error
}

// Close closes all parts. Containers go on running.
func (e *engine) Close() error {
	var all error
	for i := len(e.closers) - 1; i >= 0; i-- {
		all = errors.Join(all, e.closers[i]())
	}
	return all
}

// open makes the parts beneath c.Root. On an error it has closed what it made.
func open(ctx context.Context, c config.Config, log *slog.Logger) (_ *engine, err error) {
	e := &engine{bus: brt.NewBus(busSize), ruleset: c.DevfsRuleset, modules: c.LoadModules, platforms: c.WantedPlatforms(goruntime.GOOS, goruntime.GOARCH)}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	if e.root, err = openRoot(c.Root); err != nil {
		return nil, err
	}
	e.closers = append(e.closers, e.root.Close)
	events, past, err := journal.Open(e.root.path("events"), busSize, log)
	if err != nil {
		return nil, err
	}
	e.closers = append(e.closers, events.Close)
	e.bus.Keep(events, past)
	if e.records, err = records.Open(e.root.path("brig.db")); err != nil {
		return nil, err
	}
	e.closers = append(e.closers, e.records.Close)
	if err := e.screen(ctx, log); err != nil {
		return nil, err
	}
	if e.store, err = zfsstore.Open(ctx, zfsstore.Config{Root: e.root.path("store"), Driver: c.Storage, ZFSParent: c.ZFSParent, Log: log}); err != nil {
		return nil, errs.Wrap(err, "open the store")
	}
	e.closers = append(e.closers, e.store.Close)
	shared, err := sharesStack(c.FreeBSDNetwork)
	if err != nil {
		return nil, err
	}
	if e.jails, err = jailer.New(jailer.Config{Runtime: c.Runtime, Shim: shimPath(c.Shim), Instance: e.root.instance, RunDir: e.root.path("run"), PodDir: e.root.path("pods"), Log: log, Ruleset: c.DevfsRuleset, LoadModules: c.LoadModules, SharedNetwork: shared}); err != nil {
		return nil, errs.Wrap(err, "open the jailer")
	}
	e.closers = append(e.closers, e.jails.Close)
	keep := keeper.Open(keeper.Config{Dir: e.root.path("keeper"), Program: programPath(c.Shim, "brig-net"), Log: log})
	if e.networks, err = network.New(ctx, network.Config{Instance: e.root.instance, Dir: e.root.path("netns"), Records: e.records, Keeper: keep, Log: log, LoadModules: c.LoadModules, Shared: shared}); err != nil {
		return nil, err
	}
	e.closers = append(e.closers, e.networks.Close)
	if e.registry, err = registry.New(registry.Config{Insecure: c.InsecureRegistries, CertsDir: "/etc/docker/certs.d", UserAgent: "brig/" + version, Stall: time.Duration(c.RegistryTimeout) * time.Second, Log: log, Platforms: e.platforms}); err != nil {
		return nil, err
	}
	e.trust = &trusting{keys: trust.Open(e.root.path("trust")), web: discovery.New(discovery.Config{UserAgent: "brig/" + version})}
	e.closers = append(e.closers, e.trust.web.Close)
	if c.MetricsAddr != "" {
		e.metrics = newMetrics(e)
	}
	e.openMetadata(ctx, c, log)
	if err := e.openImages(ctx, c, log); err != nil {
		return nil, err
	}
	if err := e.openContainers(ctx, log); err != nil {
		return nil, err
	}
	return e, e.openBuilds(log)
}

func (e *engine) openImages(ctx context.Context, c config.Config, log *slog.Logger) error {
	content, err := blobs.Open(e.root.path("blobs"))
	if err != nil {
		return err
	}
	conv := convert.New()
	e.images, err = brt.NewImages(ctx, brt.ImagesConfig{
		Layers: e.store, Syncer: e.store, Leftovers: e.store, RootFS: e.store, Trees: e.store, Registry: e.registry, Pusher: e.registry, Downloads: e.registry, Converter: conv, Archives: conv, ACIs: conv, Web: e.trust.web, Keys: e.trust.keys, UnsignedACIs: c.UnsignedACIs, Records: e.records, Blobs: content,
		Bus: e.bus, Observer: e.observer(), Log: log, Spool: e.root.path("spool"), Host: brig.Platform{OS: goruntime.GOOS, Architecture: goruntime.GOARCH}, Machine: machine, Version: version, Platforms: e.platforms,
		KeepPartial: time.Duration(c.KeepPartial) * time.Hour, KeepAll: len(e.bad) > 0,
		Identified: func(id brig.Digest) { e.containers.ImageIdentified(id) }, // containers are there before images.Start
	})
	if err != nil {
		return errs.Wrap(err, "load images")
	}
	e.closers = append(e.closers, e.images.Close)
	if e.steps, err = brt.NewSteps(ctx, e.images, e.store); err != nil {
		return errs.Wrap(err, "load the build cache")
	}
	e.closers = append(e.closers, e.steps.Close)
	return nil
}

// openContainers loads the containers and takes over those that run; then everything that no record names is swept.
func (e *engine) openContainers(ctx context.Context, log *slog.Logger) (err error) {
	driver, _ := e.store.Driver()
	var identities brt.Identities
	if e.metadata != nil {
		identities = e.metadata
	}
	e.containers, err = brt.NewContainers(ctx, brt.ContainersConfig{
		Identities: identities, Documents: e.images,
		RootFS: e.store, VolumeData: e.store, Strays: e.networks, Jails: e.jails, Host: e.jails, Processes: e.jails, Terminals: e.jails, Freezer: e.jails, Limiter: e.jails, Gauge: e.jails,
		Networks: e.networks, Members: e.networks, Sandboxes: e.jails, ACIs: e.images, Records: e.records, Images: e.images, Maker: e.images, Platforms: e.platforms, Bus: e.bus,
		Root: e.root.dir, Driver: driver, Instance: e.root.instance, Log: log, Freed: e.images.Stir, KeepAll: len(e.bad) > 0, Observer: e.observer(),
	})
	if err != nil {
		return errs.Wrap(err, "load containers")
	}
	e.closers = append(e.closers, func() error { e.containers.Close(); return nil })
	e.images.SetUsers(e.containers.Users)
	if err := e.containers.Recover(ctx); err != nil {
		log.Error("not all that a former brigd left could be taken over or cleaned up; the next start tries again", "err", err)
	}
	if len(e.bad) == 0 {
		live := e.containers.Live()
		live.Chains = e.images.Live()
		live.Volumes = append(live.Volumes, e.steps.CacheVolumes()...)
		if err := e.store.Sweep(ctx, live); err != nil {
			return errs.Wrap(err, "sweep the store")
		}
	}
	e.images.Start() // computes ACI IDs that are missing, in clones that the sweep would have taken
	return nil
}

// serve runs brigd until ctx ends.
func serve(ctx context.Context, c config.Config, log *slog.Logger) (err error) {
	e, err := open(ctx, c, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	var identities dockerapi.Identities = unidentified{}
	if e.metadata != nil {
		identities = e.metadata
	}
	api, err := dockerapi.New(dockerapi.Config{
		Backends: dockerapi.Backends{
			Containers: e.containers, Lifecycle: e.containers, Freezer: e.containers, Updates: e.containers, Meter: e.containers, Terminals: e.containers, Execs: e.containers,
			Files: e.containers, Volumes: e.containers, Images: e.images, Transfers: e.images, Pushes: e.images, Imports: e.images, Commits: e.containers, Builds: e.builder, Contexts: e.contexts, Caches: e.steps, Distributions: e.registry, ACIs: e.images, ACIBuilds: brt.NewACIBuilder(e.images, convert.New(), e.containers), Variants: e.images, Trust: e.trust, Networks: e.networks, Memberships: e.containers, System: newSystem(e, c), Housekeeping: &housekeeper{e: e}, Identities: identities, Pods: e.containers, PodLifecycle: e.containers,
		},
		Log: log, Version: version, LogDefault: c.DefaultLog(), Answered: e.answered(),
		CgroupNS: cgroupNS(e.jails.Facts().CgroupVersion), Runtime: e.jails.Facts().RuntimeName,
	})
	if err != nil {
		return err
	}
	if e.metrics != nil {
		stop, err := serveMetrics(ctx, c.MetricsAddr, e.metrics, log)
		if err != nil {
			return err
		}
		defer stop()
	}
	listeners, err := listen(ctx, c, log)
	if err != nil {
		return err
	}
	log.Info("brigd is ready", "version", version, "root", c.Root, "instance", e.root.instance, "hosts", c.Hosts)
	return api.Serve(ctx, listeners...)
}

// listen opens all hosts, or none.
func listen(ctx context.Context, c config.Config, log *slog.Logger) (all []net.Listener, err error) {
	var mutual *tls.Config
	if c.TLSVerify {
		if mutual, err = dockerapi.MutualTLS(c.TLSCACert, c.TLSCert, c.TLSKey); err != nil {
			return nil, err
		}
	}
	for _, h := range c.Hosts {
		l, err := dockerapi.Listen(ctx, log, h, c.Group, mutual)
		if err != nil {
			for _, open := range all {
				open.Close()
			}
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

// cgroupNS is the cgroup namespace of a container that doesn't choose, by the version of cgroups; "" where there are none.
func cgroupNS(version string) string { return map[string]string{"1": "host", "2": "private"}[version] }

package runtime

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/brigd/brig/internal/blobs"
	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/elfcheck"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/trust"
)

// Kinds of records that Images owns. An image's key is its ID's digits; a reference's key is the normalized reference.
const (
	kindImage = "image"
	kindRef   = "ref"
)

// refRecord is the value of a reference's record.
type refRecord struct {
	Image  brig.Digest
	Others []brig.Digest `json:",omitempty"` // as Images.others
}

// ImagesConfig is what Images needs. All fields but Backoff, Leftovers, Version and UnsignedACIs must be set.
type ImagesConfig struct {
	Layers    Layers
	Syncer    Syncer    // of the layers, called once for each new image
	Leftovers Leftovers // nil: what a former brigd left under a container stays until the next Sweep
	RootFS    RootFS    // for temporary clones, from which ACIs are written
	Trees     Trees     // for images that are built here
	Registry  Registry
	Pusher    Pusher     // for Push alone
	Downloads Downloader // for Import of URLs alone
	Converter Converter
	Archives  Archives
	ACIs      ACIs         // for ImportACI and ExportACI alone
	Web       ACIWeb       // for ImportACI alone
	Keys      *trust.Store // for ImportACI alone
	Records   Records
	Blobs     *blobs.Store // Images alone writes to it, and removes what no image needs
	Bus       *Bus
	Observer  Observer // nil: nothing is measured
	Log       *slog.Logger
	Spool     string               // directory for temporary files of load; made if missing
	Host      brig.Platform        // what an image must be made for if a request says only half of it
	Machine   func() elfcheck.Host // what images are checked for; for CheckImage alone
	// UnsignedACIs says which ACIs may come in without a signature: "files" those that a client sends, "all" also what is downloaded, else none.
	UnsignedACIs string
	Version      string          // of brig, for the images that it makes; "" if it isn't to be told
	Platforms    []brig.Platform // to take of an archive's image for several when nobody asks for one, the best first; none: the host's
	Backoff      time.Duration   // before the first retry of a broken download; it doubles each time. 0: one second
	// KeepPartial is how long an unfinished download stays for a later pull to go on with. 0: a day.
	KeepPartial time.Duration
	KeepAll     bool              // drop nothing but what one lets go of: there are records that can't be read, and nobody knows what they need
	Identified  func(brig.Digest) // called when an image\'s ACI ID has become known; nil: nobody cares
}

// ImageUser is a container, as far as its image is concerned.
type ImageUser struct {
	ID      brig.ID
	Name    string
	Image   brig.Digest
	Running bool // or paused, or restarting
}

// Images pulls, keeps, shows and removes images. All images and references are in memory; lists touch no disk.
//
// What an image needs (chains, blobs) is held by its lease; a pull or an export under way has a lease of its own. The last lease
// to be released drops the thing. A change is made in this order: the record (one transaction, durable), then memory, then releases.
//
// Locks: write is taken before mu; neither is held while SetUsers's function or a With's use runs, and mu never over I/O.
type Images struct {
	ImagesConfig
	log    *slog.Logger
	chains *keeper
	blobs  *keeper
	aci    *aciWorker
	reaper *reaper

	ctx      context.Context // of background work; ended by Close
	cancel   context.CancelFunc
	flying   sync.WaitGroup // flights
	lull     lull           // between flights
	pulling  *slots         // downloads at once
	loading  *slots         // copies out of archives at once
	applying *slots         // layers decompressed and applied at once

	write sync.Mutex // held while records and memory change together

	mu        sync.Mutex // guards the rest
	images    map[brig.Digest]*imageEntry
	refs      refTable
	others    map[string][]brig.Digest   // what a reference meant before, for other platforms than now; some may have been removed
	known     map[brig.Digest]brig.Layer // chains that are in the store and held, with where their bytes are
	flights   map[brig.Digest]*flight    // by chain, while they are being made
	users     func() []ImageUser
	temporary map[brig.RID]bool             // clones that no record names
	packing   map[brig.Digest]chan struct{} // layers whose tars are being made, by diffID; closed when that has ended
	changed   chan struct{}                 // closed and replaced when a pin or a removal ends
}

// An imageEntry is one image in memory.
type imageEntry struct {
	img      *brig.Image // never changed, only replaced, with write and mu held
	lease    *lease
	pins     int  // With's uses that run
	removing bool // no further pin may begin
}

// Numbers that Docker has as defaults.
const (
	maxDownloads = 3 // at once
	maxAttempts  = 5 // for one download
)

// maxApplies is how many layers are decompressed and applied at once: more than there are processors, since some wait for their download
// or for a layer beneath. Each takes some 2 MiB.
const maxApplies = 8

// NewImages loads all records, and removes the blobs that none of them needs. ctx bounds the loading alone. Call Layers.Sweep with Live,
// then Start, before the first request; Close in the end.
func NewImages(ctx context.Context, c ImagesConfig) (*Images, error) {
	if c.Backoff == 0 {
		c.Backoff = time.Second
	}
	if c.KeepPartial == 0 {
		c.KeepPartial = 24 * time.Hour
	}
	if c.Observer == nil {
		c.Observer = unobserved{}
	}
	i := &Images{ImagesConfig: c, log: c.Log, images: map[brig.Digest]*imageEntry{}, refs: refTable{}, others: map[string][]brig.Digest{}, known: map[brig.Digest]brig.Layer{},
		flights: map[brig.Digest]*flight{}, temporary: map[brig.RID]bool{}, packing: map[brig.Digest]chan struct{}{}, users: func() []ImageUser { return nil }, changed: make(chan struct{}),
		pulling: newSlots(maxDownloads), loading: newSlots(maxDownloads), applying: newSlots(maxApplies)}
	i.chains = newKeeper(i.dropChain)
	i.blobs = newKeeper(func(_ context.Context, d brig.Digest) error { return c.Blobs.Remove(d) })
	i.reaper = newReaper()
	i.chains.failed, i.blobs.failed = i.Stir, i.Stir
	i.aci = newACIWorker(i)
	i.Spool = filepath.Join(c.Spool, "load")
	if err := os.RemoveAll(i.Spool); err != nil {
		return nil, errs.Wrap(err, "empty the spool")
	}
	if err := os.MkdirAll(i.Spool, 0o700); err != nil {
		return nil, errs.Wrap(err, "make the spool")
	}
	if err := i.load(ctx); err != nil {
		return nil, err
	}
	if !c.KeepAll {
		i.sweepBlobs()
	}
	if _, _, err := c.Blobs.DropPartials(c.KeepPartial); err != nil {
		i.log.Warn("old unfinished downloads stay", "error", err)
	}
	i.ctx, i.cancel = context.WithCancel(context.Background())
	return i, nil
}

func (i *Images) sweepBlobs() {
	n, err := i.Blobs.Sweep(i.blobs.held)
	if err != nil {
		i.log.Warn("blobs that no image needs stay", "error", err)
	}
	if n > 0 {
		i.log.Info("removed blobs that no image needs", "count", n)
	}
}

// load fills memory from the records.
func (i *Images) load(ctx context.Context) error {
	records, err := i.Records.List(ctx, kindImage)
	if err != nil {
		return errs.Wrap(err, "load images")
	}
	for _, r := range records {
		var img brig.Image
		if err := json.Unmarshal(r.Value, &img); err != nil {
			return errs.Wrap(err, "load image %s", r.Key)
		}
		i.enter(&img)
		if img.ACI.ID == "" {
			i.aci.add(img.ID)
		}
	}
	if records, err = i.Records.List(ctx, kindRef); err != nil {
		return errs.Wrap(err, "load references")
	}
	for _, r := range records {
		var ref refRecord
		if err := json.Unmarshal(r.Value, &ref); err != nil {
			return errs.Wrap(err, "load reference %s", r.Key)
		}
		if i.images[ref.Image] == nil {
			return errs.New(errs.Internal, "load reference %s: its image %s has no record", r.Key, ref.Image)
		}
		i.refs[r.Key] = ref.Image
		i.others[r.Key] = ref.Others
	}
	return nil
}

// Start begins the background work: computing the ACI IDs that are still missing, and dropping late what could not be dropped at once. The
// former makes temporary clones, which a Sweep would take away, so call it after that. Without Start the ACI IDs begin with the first image
// that is pulled or loaded, and nothing is dropped late.
func (i *Images) Start() {
	i.aci.start(i.ctx)
	i.reaper.start(func() { i.reapLate(i.ctx) })
}

// Close ends background work and running pulls, and waits for them. The error is always nil.
func (i *Images) Close() error {
	i.cancel()
	i.aci.close()
	i.reaper.done.Wait()
	i.flying.Wait()
	return nil
}

// SetUsers tells Images how to find the containers that use images. users is called without locks held.
func (i *Images) SetUsers(users func() []ImageUser) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.users = users
}

func (i *Images) getUsers() []ImageUser {
	i.mu.Lock()
	f := i.users
	i.mu.Unlock()
	return f()
}

// Live returns the chains that are needed, for Layers.Sweep.
func (i *Images) Live() []brig.Digest { return i.chains.all() }

// enter puts an image into memory and takes its lease. At run time all that it names is held by the caller, who has write.
func (i *Images) enter(img *brig.Image) {
	l := i.lease()
	l.image(img)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.images[img.ID] = &imageEntry{img: img, lease: l}
	for _, x := range img.Layers {
		if x.Blob.Digest == "" && i.known[x.Chain].Diff == x.Diff {
			continue // another image has its bytes, or neither
		}
		i.known[x.Chain] = x
	}
}

func (i *Images) dropChain(ctx context.Context, d brig.Digest) error {
	i.mu.Lock()
	delete(i.known, d)
	i.mu.Unlock()
	return i.Layers.Drop(ctx, d)
}

// notify wakes all that wait for a change. mu is held.
func (i *Images) notify() {
	close(i.changed)
	i.changed = make(chan struct{})
}

// wait waits for a change, without mu, which is held before and after.
func (i *Images) wait(ctx context.Context) error {
	c := i.changed
	i.mu.Unlock()
	defer i.mu.Lock()
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ImageList returns all images, newest first.
func (i *Images) ImageList(context.Context) ([]brig.ImageInfo, error) {
	count := map[brig.Digest]int{}
	for _, u := range i.getUsers() {
		count[u.Image]++
	}
	i.mu.Lock()
	refs := i.refs.byImage()
	out := make([]brig.ImageInfo, 0, len(i.images))
	for id, e := range i.images {
		info := brig.ImageInfo{Image: *e.img, Containers: count[id]}
		info.Tags, info.Digests = familiarSplit(refs[id])
		out = append(out, info)
	}
	i.mu.Unlock()
	slices.SortFunc(out, func(a, b brig.ImageInfo) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// Count is how many images there are.
func (i *Images) Count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.images)
}

// ImageGet returns one image. NotFound, with dockerd's words.
func (i *Images) ImageGet(ctx context.Context, ref string) (*brig.ImageInfo, error) {
	return i.ImageFor(ctx, ref, "")
}

// ImageFor returns the image that ref means for a platform, "" for any. Errors are as With's.
func (i *Images) ImageFor(_ context.Context, ref, platform string) (*brig.ImageInfo, error) {
	users := i.getUsers()
	i.mu.Lock()
	defer i.mu.Unlock()
	e, err := i.findFor(ref, platform)
	if err != nil {
		return nil, err
	}
	if err := i.checkPlatform(e.img, ref, platform); err != nil {
		return nil, err
	}
	return i.info(e.img, users), nil
}

// ImageForEach returns all that ref means, one for each platform; first what it means where nobody asks for one. NotFound.
func (i *Images) ImageForEach(_ context.Context, ref string) ([]brig.ImageInfo, error) {
	users := i.getUsers()
	i.mu.Lock()
	defer i.mu.Unlock()
	e, name, err := i.find(ref)
	if err != nil {
		return nil, err
	}
	out := []brig.ImageInfo{*i.info(e.img, users)}
	for _, id := range i.others[name] {
		if o := i.images[id]; o != nil {
			out = append(out, *i.info(o.img, users))
		}
	}
	return out, nil
}

// info is an image with its names and the number of its users. mu is held.
func (i *Images) info(img *brig.Image, users []ImageUser) *brig.ImageInfo {
	info := &brig.ImageInfo{Image: *img}
	info.Tags, info.Digests = familiarSplit(i.refs.of(img.ID))
	for _, u := range users {
		if u.Image == img.ID {
			info.Containers++
		}
	}
	return info
}

// event publishes what happened to an image. actor is its ID, or for a pull the reference; name is the attribute of that name.
func (i *Images) event(action string, img *brig.Image, actor, name string) {
	attrs := map[string]string{}
	for k, v := range img.Config.Labels {
		attrs[k] = v
	}
	if name != "" {
		attrs["name"] = name
	}
	i.Bus.Publish(brig.Event{Type: "image", Action: action, ActorID: actor, Attributes: attrs})
}

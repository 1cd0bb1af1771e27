package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// housekeeper collects garbage and examines what an engine keeps, across its parts.
type housekeeper struct {
	e  *engine
	mu sync.Mutex // one at a time: two that mend would get in each other's way
}

// Collect removes what nobody needs, now.
func (h *housekeeper) Collect(ctx context.Context, dry bool) (*brig.Collected, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.e.errBadRecords(); err != nil {
		return nil, err
	}
	out, err := h.e.images.Collect(ctx, dry)
	if err != nil {
		return nil, err
	}
	s, err := h.look(ctx)
	if err != nil {
		return nil, err
	}
	for _, i := range s.strays() {
		if !dry {
			if err := h.e.store.Scrap(ctx, i); err != nil {
				out.Waiting++
				out.Notes = append(out.Notes, err.Error())
				continue
			}
		}
		out.Leftovers++
	}
	return out, nil
}

// sight is the store beside the records, in the order in which it must be looked at: what should be, what is, what may be.
type sight struct {
	containers []*brig.Container
	volumes    []*brig.Volume
	items      []brig.StoredItem
	live       brig.Live // what records name, or something under way has made
}

func (h *housekeeper) look(ctx context.Context) (s sight, err error) {
	if s.containers, err = h.e.containers.List(ctx); err != nil {
		return s, err
	}
	if s.volumes, err = h.e.containers.VolumeList(ctx); err != nil {
		return s, err
	}
	if s.items, err = h.e.store.Stored(ctx); err != nil {
		return s, err
	}
	s.live = h.e.containers.Live()
	s.live.Containers = append(s.live.Containers, h.e.images.Temporary()...)
	s.live.Volumes = append(s.live.Volumes, h.e.steps.CacheVolumes()...)
	return s, nil
}

func (s *sight) has(kind string, rid brig.RID) bool {
	return slices.ContainsFunc(s.items, func(i brig.StoredItem) bool { return i.Kind == kind && i.RID == rid })
}

// strays are the items that no record names. Layers that the store knows are the collector's.
func (s *sight) strays() (out []brig.StoredItem) {
	for _, i := range s.items {
		switch {
		case i.Kind == brig.StoredContainer && !slices.Contains(s.live.Containers, i.RID),
			i.Kind == brig.StoredMount && !slices.Contains(s.live.Containers, i.RID),
			i.Kind == brig.StoredVolume && !slices.Contains(s.live.Volumes, i.RID),
			i.Stray:
			out = append(out, i)
		}
	}
	return out
}

// Examine compares records, store, blobs and the kernel with each other.
func (h *housekeeper) Examine(ctx context.Context, o brig.Examination) (*brig.Diagnosis, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := &brig.Diagnosis{Facts: h.facts(ctx), Findings: []brig.Finding{}}
	problems, err := h.e.records.Verify(ctx)
	if err != nil {
		problems = append(problems, err.Error())
	}
	for _, p := range problems {
		d.Add(brig.Finding{Check: "records", Subject: "brig.db", Problem: p}, false, nil)
	}
	if len(h.e.bad) > 0 { // the rest would be taken for garbage; the next examination looks at it
		h.examineBad(ctx, o, d)
		return d, ctx.Err()
	}
	if err := h.examineStore(ctx, o, d); err != nil {
		return nil, err
	}
	if err := h.e.images.Examine(ctx, o, d); err != nil {
		return nil, err
	}
	if err := h.examineContainers(ctx, o, d); err != nil {
		return nil, err
	}
	if err := h.examineGarbage(ctx, o, d); err != nil {
		return nil, err
	}
	h.examineJails(ctx, o, d)
	h.examineIdentities(ctx, o, d)
	alive := func(id brig.ID) bool { _, err := h.e.containers.Get(ctx, string(id)); return err == nil }
	if err := h.e.networks.Examine(ctx, o.Fix, alive, d); err != nil {
		return nil, err
	}
	h.examineHost(ctx, d)
	return d, ctx.Err()
}

// examineStore deals with what lies in the store and is not in order by itself, or named by nobody.
func (h *housekeeper) examineStore(ctx context.Context, o brig.Examination, d *brig.Diagnosis) error {
	s, err := h.look(ctx)
	if err != nil {
		return err
	}
	mend := func(i brig.StoredItem) func() error { return func() error { return h.e.store.Scrap(ctx, i) } }
	for _, i := range s.items {
		if i.Lost {
			d.Add(brig.Finding{Check: "layer", Subject: string(i.RID), Problem: "the files of layer chain " + string(i.Chain) + " are gone or damaged", Mend: "forget it; its images are mended next"}, o.Fix, mend(i))
		}
		if i.Kind == brig.StoredMount && slices.Contains(s.live.Containers, i.RID) {
			h.examineMount(i, o, d, mend(i))
		}
	}
	for _, i := range s.strays() {
		f := brig.Finding{Check: i.Kind, Subject: string(i.RID), Problem: "no record names it", Mend: "delete it"}
		if i.Kind == brig.StoredMount {
			f.Problem, f.Mend = "it is the mount point of no container", "unmount and remove it"
		}
		d.Add(f, o.Fix, mend(i))
	}
	return nil
}

// examineMount looks at the mount of a container that exists: it is stale if the container doesn't run and nobody looks into it.
func (h *housekeeper) examineMount(i brig.StoredItem, o brig.Examination, d *brig.Diagnosis, unmount func() error) {
	var failed error
	idle, err := h.e.containers.WhileIdle(i.RID, func() error {
		if o.Fix {
			failed = unmount()
		}
		return nil
	})
	if err == nil && idle {
		f := brig.Finding{Check: "mount", Subject: string(i.RID), Problem: "a container that doesn't run is mounted", Mend: "unmount it"}
		d.Add(f, o.Fix, func() error { return failed })
	}
}

// examineContainers looks for containers and volumes whose data is lost, and for folders without a container.
func (h *housekeeper) examineContainers(ctx context.Context, o brig.Examination, d *brig.Diagnosis) error {
	folders, err := os.ReadDir(h.e.root.path("containers"))
	if err != nil && !os.IsNotExist(err) {
		return errs.Wrap(err, "list the folders of containers")
	}
	s, err := h.look(ctx)
	if err != nil {
		return err
	}
	for _, c := range s.containers {
		now, err := h.e.containers.Get(ctx, string(c.ID))
		if s.has(brig.StoredContainer, c.RootFS) || err != nil || now.State == brig.Removing || now.State == brig.Dead {
			continue
		}
		d.Add(brig.Finding{Check: "container", Subject: c.ID.Short() + " (" + c.Name + ")", Problem: "its root file system is gone", Mend: "make it a new one from its image; what it had changed is lost"},
			o.Fix, func() error { return h.e.containers.NewRoot(ctx, c.RootFS) })
	}
	for _, v := range s.volumes {
		if _, err := h.e.containers.VolumeGet(ctx, v.Name); s.has(brig.StoredVolume, v.Dataset) || err != nil {
			continue
		}
		d.Add(brig.Finding{Check: "volume", Subject: v.Name, Problem: "its data is gone", Mend: "make it again, empty"}, o.Fix, func() error { return h.e.containers.NewVolume(ctx, v.Name) })
	}
	for _, f := range folders {
		_, ofContainer := h.e.containers.Get(ctx, f.Name())
		_, _, ofPod := h.e.containers.PodGet(ctx, f.Name())
		if errs.Is(ofContainer, errs.NotFound) && errs.Is(ofPod, errs.NotFound) {
			dir := h.e.root.path("containers", f.Name())
			d.Add(brig.Finding{Check: "container", Subject: f.Name(), Problem: "there is a folder for it, and no record", Mend: "delete the folder"}, o.Fix, func() error { return os.RemoveAll(dir) })
		}
	}
	return nil
}

// examineGarbage tells of chains and blobs that nobody needs. A few may just be on their way out.
func (h *housekeeper) examineGarbage(ctx context.Context, o brig.Examination, d *brig.Diagnosis) error {
	would, err := h.e.images.Collect(ctx, true)
	if err != nil {
		return err
	}
	if would.Layers+would.Blobs == 0 {
		return nil
	}
	what := fmt.Sprintf("%d layers and %d blobs", would.Layers, would.Blobs)
	d.Add(brig.Finding{Check: "garbage", Subject: what, Problem: "nobody needs them", Mend: "remove them"}, o.Fix, func() error {
		got, err := h.e.images.Collect(ctx, false)
		if err == nil && got.Waiting > 0 {
			err = errs.New(errs.Unavailable, "not all of it could be removed: %s", strings.Join(got.Notes, "; "))
		}
		return err
	})
	return nil
}

// examineJails looks for shims, run directories and cgroups whose container is gone or doesn't run.
func (h *housekeeper) examineJails(ctx context.Context, o brig.Examination, d *brig.Diagnosis) {
	for _, j := range h.e.jails.Found() {
		rid := brig.RID(filepath.Base(j.Dir))
		if c, err := h.e.containers.Get(ctx, j.JailID); err == nil && string(c.ID) == j.JailID {
			rid = c.RootFS
		}
		f := brig.Finding{Check: "jail", Subject: j.JailID, Problem: "its container doesn't run", Mend: "kill and remove what is left of it"}
		var failed error
		idle, err := h.e.containers.WhileIdle(rid, func() error {
			if o.Fix {
				failed = h.e.jails.Destroy(ctx, j)
			}
			return nil
		})
		switch {
		case errs.Is(err, errs.NotFound):
			f.Problem = "it belongs to no container"
			d.Add(f, o.Fix, func() error { return h.e.jails.Destroy(ctx, j) })
		case err != nil:
			d.Add(f, true, func() error { return err })
		case idle:
			d.Add(f, o.Fix, func() error { return failed })
		}
	}
}

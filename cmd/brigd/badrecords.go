package main

import (
	"context"
	"log/slog"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/network"
	brt "github.com/brigd/brig/runtime"
)

// screen hides the records that can't be loaded from those who load them, so that all others are served. As long as there are any, nothing
// is swept and no garbage is collected.
func (e *engine) screen(ctx context.Context, log *slog.Logger) error {
	bad, err := brt.BadRecords(ctx, e.records)
	if err != nil {
		return err
	}
	nets, err := network.BadRecords(ctx, e.records)
	if err != nil {
		return err
	}
	e.bad = append(bad, nets...)
	for _, b := range e.bad {
		log.Error("a record can't be read; nothing that it may name is removed until brig doctor --fix sets it aside", "kind", b.Kind, "key", b.Key, "err", b.Problem)
		e.records.Hide(b.Kind, b.Key)
	}
	return nil
}

// errBadRecords is why garbage can't be told from what is needed.
func (e *engine) errBadRecords() error {
	if len(e.bad) == 0 {
		return nil
	}
	return errs.New(errs.Conflict, "%d records can't be read, such as that of %s %s: what they name can't be told from garbage; brig doctor --fix sets them aside",
		len(e.bad), e.bad[0].Kind, e.bad[0].Key)
}

// examineBad reports the bad records and sets them aside. What is left to examine is what no other record names, which may have been theirs.
func (h *housekeeper) examineBad(ctx context.Context, o brig.Examination, d *brig.Diagnosis) {
	var still []brig.BadRecord
	dir := h.e.root.path("damaged")
	for _, b := range h.e.bad {
		mended := false
		f := brig.Finding{Check: "records", Subject: b.Kind + " " + b.Key, Problem: "its record can't be read: " + b.Problem,
			Mend: "move the record to " + dir + "; what it stood for is garbage then, which brig gc, brig doctor --fix and the next start of brigd remove"}
		d.Add(f, o.Fix, func() error {
			err := h.e.records.SetAside(ctx, dir, b.Kind, b.Key, b.Also)
			mended = err == nil || errs.Is(err, errs.NotFound)
			return err
		})
		if !mended {
			still = append(still, b)
		}
	}
	h.e.bad = still
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/records"
)

func gcCommand(host *string) *cobra.Command {
	dry := false
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove layers, blobs, leftovers and unfinished downloads that nothing needs, now",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := dial(*host)
			if err != nil {
				return err
			}
			var got brig.Collected
			path := "/brig/v1/gc"
			if dry {
				path += "?dryRun=1"
			}
			if err := c.ask(cmd.Context(), path, &got); err != nil {
				return err
			}
			printCollected(cmd.OutOrStdout(), &got)
			return nil
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be removed")
	return cmd
}

func printCollected(w io.Writer, g *brig.Collected) {
	did := "removed"
	if g.DryRun {
		did = "would remove"
	}
	fmt.Fprintf(w, "%s %d layers (%s, %d bytes), %d blobs (%s, %d bytes), %d leftovers, %d unfinished downloads (%s, %d bytes)\n", did,
		g.Layers, units.HumanSize(float64(g.LayerBytes)), g.LayerBytes, g.Blobs, units.HumanSize(float64(g.BlobBytes)), g.BlobBytes, g.Leftovers,
		g.Parts, units.HumanSize(float64(g.PartBytes)), g.PartBytes)
	if g.Waiting > 0 {
		fmt.Fprintf(w, "%d more are in use or busy; brigd removes them when it can\n", g.Waiting)
	}
	for _, n := range g.Notes {
		fmt.Fprintln(w, "  "+n)
	}
}

// errFindings ends brig doctor with exit code 1; what was found has been printed.
var errFindings = errors.New("not all is well")

func doctorCommand(host *string) *cobra.Command {
	var o brig.Examination
	root := ""
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Compare records, images, containers and the host with each other, and mend what can be",
		Long: "Compare records, images, containers and the host with each other. It says what is wrong and what it would mend; --fix mends it.\n" +
			"The exit code is 0 if all is well, or has been mended, and 1 if not. With --root no brigd is needed: then the records alone are checked.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if root != "" {
				return doctorOffline(cmd.Context(), cmd.OutOrStdout(), root, o)
			}
			return doctor(cmd.Context(), cmd.OutOrStdout(), *host, o)
		},
	}
	cmd.Flags().BoolVar(&o.Fix, "fix", false, "mend what can be mended")
	cmd.Flags().BoolVar(&o.Deep, "deep", false, "read all blobs and compare them with their digests")
	cmd.Flags().StringVar(&root, "root", "", "check the records of the brigd that has `DIR` as its root, which must not run")
	return cmd
}

func doctor(ctx context.Context, w io.Writer, host string, o brig.Examination) error {
	c, err := dial(host)
	if err != nil {
		return err
	}
	path := "/brig/v1/doctor?"
	for name, on := range map[string]bool{"fix": o.Fix, "deep": o.Deep} {
		if on {
			path += name + "=1&"
		}
	}
	var d brig.Diagnosis
	if err := c.ask(ctx, path, &d); err != nil {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("%w\nNo brigd runs there. Start it: its start checks the store and removes what nobody names. If it can't start, look at its records with brig doctor --root DIR", err)
		}
		return err
	}
	for _, f := range d.Facts {
		fmt.Fprintf(w, "%-24s %s\n", f[0], f[1])
	}
	return printFindings(w, d.Findings, o.Fix)
}

// printFindings returns errFindings if something is wrong and has not been mended.
func printFindings(w io.Writer, all []brig.Finding, fix bool) error {
	open, notes := 0, 0
	for _, f := range all {
		what := map[bool]string{true: "note", false: "fault"}[f.Note]
		where := f.Check + " " + f.Subject
		if f.Check == f.Subject {
			where = f.Check
		}
		fmt.Fprintf(w, "%s: %s: %s\n", what, where, f.Problem)
		switch {
		case f.Note:
			notes++
			if f.Command != "" {
				fmt.Fprintf(w, "  to mend it: %s\n", f.Command)
			}
			continue
		case f.Mended:
			fmt.Fprintf(w, "  mended: %s\n", f.Mend)
			continue
		case f.Error != "":
			fmt.Fprintf(w, "  could not be mended (%s): %s\n", f.Mend, f.Error)
		case f.Mend == "":
			fmt.Fprintln(w, "  brig can't mend this")
		case !fix:
			fmt.Fprintf(w, "  --fix would mend it: %s\n", f.Mend)
		}
		open++
	}
	if open > 0 {
		return errFindings
	}
	if notes > 0 {
		fmt.Fprintln(w, "all is well with brig; the notes are about the host")
		return nil
	}
	fmt.Fprintln(w, "all is well")
	return nil
}

// doctorOffline looks at a root that no brigd has. It holds brigd's lock meanwhile.
func doctorOffline(ctx context.Context, w io.Writer, root string, o brig.Examination) error {
	if o.Fix || o.Deep {
		return errors.New("--fix and --deep need a running brigd: without one only the records are checked")
	}
	lock, err := os.OpenFile(filepath.Join(root, "brigd.lock"), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("%s is no brigd's root: %w", root, err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("a brigd uses %s: ask it, without --root: %w", root, err)
	}
	problems, err := records.VerifyFile(ctx, filepath.Join(root, "brig.db"))
	if err != nil {
		return fmt.Errorf("%w\nbrigd can't start with it. Put back a copy of the file; without one, move it away: brigd then starts with no images and containers, "+
			"removes what the store holds, and images must be pulled again", err)
	}
	var all []brig.Finding
	for _, p := range problems {
		all = append(all, brig.Finding{Check: "records", Subject: "brig.db", Problem: p})
	}
	fmt.Fprintln(w, "only the records were checked: the rest needs a running brigd")
	return printFindings(w, all, false)
}

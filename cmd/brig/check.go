package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/brigd/brig/internal/elfcheck"
)

func checkCommand(host *string) *cobra.Command {
	var on, platform string
	var asJSON, all bool
	cmd := &cobra.Command{
		Use: "check IMAGE", Args: cobra.ExactArgs(1),
		Short: "Say whether an image will run, without running it",
		Long: "Say whether an image will run: its programs are read, not executed. The verdict is \"will run\", \"degraded\" or \"will not\", with what is missing: dynamic linkers\n" +
			"and libraries, system calls that FreeBSD's Linux ABI lacks, permissions that jails don't have. What a program can do is not always what it does.\n" +
			"The exit code is 1 if the image will not run, else 0.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dial(*host)
			if err != nil {
				return err
			}
			var r elfcheck.Report
			if err := c.decode(cmd.Context(), "/brig/v1/images/"+escape(args[0])+"/check?"+url.Values{"host": {on}, "platform": {platform}}.Encode(), &r); err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				err = e.Encode(r)
			} else {
				printReport(cmd.OutOrStdout(), &r, all)
			}
			if err == nil && r.Verdict == elfcheck.WillNot {
				err = fmt.Errorf("%s will not run on %s", r.Image, r.Host)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&on, "on", "", "the `HOST` to run it on: freebsd/RELEASE[/ARCH] or linux[/ARCH] (default: brigd's)")
	cmd.Flags().StringVar(&platform, "platform", "", "`OS/ARCH[/VARIANT]` of the image, where there are several of one name")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the whole report as JSON")
	cmd.Flags().BoolVar(&all, "all", false, "print all programs that will not, or not fully, run, also where the image doesn't start them by itself")
	return cmd
}

// named is how many programs that will not run are named without --all.
const named = 5

func printReport(w io.Writer, r *elfcheck.Report, all bool) {
	fmt.Fprintf(w, "%s (%s) on %s: %s\n", r.Image, r.Platform, r.Host, r.Verdict)
	printReasons(w, "  ", r.Reasons)
	for _, f := range r.Entry {
		printFile(w, &f)
	}
	others := r.All
	for _, f := range r.Entry {
		switch f.Verdict {
		case elfcheck.WillRun:
			others.WillRun--
		case elfcheck.Degraded:
			others.Degraded--
		case elfcheck.WillNot:
			others.WillNot--
		}
	}
	if n := others.WillRun + others.Degraded + others.WillNot; n > 0 {
		fmt.Fprintf(w, "  its %d other programs: %d will run, %d are degraded, %d will not\n", n, others.WillRun, others.Degraded, others.WillNot)
	}
	left := 0
	for _, f := range r.Others {
		// What a script executes isn't known: it may be one of these that the image is there for.
		if all || f.Verdict == elfcheck.WillNot && others.WillNot <= named {
			printFile(w, &f)
		} else if f.Verdict == elfcheck.WillNot {
			left++
		}
	}
	if left > 0 {
		fmt.Fprintln(w, "  --all names them")
	}
	if r.Table != "" {
		fmt.Fprintf(w, "  missing system calls are those of %s\n", r.Table)
	}
}

func printFile(w io.Writer, f *elfcheck.File) {
	kind := "dynamic"
	if f.Static {
		kind = "static"
	}
	fmt.Fprintf(w, "  %s (%s, %s): %s\n", f.Path, f.Platform, kind, f.Verdict)
	printReasons(w, "      ", f.Reasons)
}

// printReasons marks what lowers the verdict; the rest is worth knowing.
func printReasons(w io.Writer, indent string, list []elfcheck.Reason) {
	for _, re := range list {
		mark := "  "
		switch re.Verdict {
		case elfcheck.Degraded:
			mark = "- "
		case elfcheck.WillNot:
			mark = "! "
		}
		fmt.Fprintln(w, indent+mark+re.String())
	}
}

package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
)

// maxSignature bounds a signature file, in bytes: it goes into a header.
const maxSignature = 64 << 10

// importing is one run of brig image import.
type importing struct {
	signature string // path of a detached signature; "": beside the file
	insecure  bool
	discover  bool
	quiet     bool
}

func imageImport(host *string) *cobra.Command {
	var p importing
	cmd := &cobra.Command{
		Use: "import FILE.aci|-|URL|NAME[:VERSION][,LABEL=VALUE…]", Args: cobra.ExactArgs(1),
		Short: "Make an image of an ACI and print its ACI ID and docker's name for it",
		Long: "Make an image of an ACI, compressed with gzip, bzip2, xz, zstd or not at all: of a file, of standard input (-), of a URL, or of\n" +
			"what discovery finds for an ACI name. What exists as a file, or begins with / or . is a file.\n" +
			"The ACI must have a detached signature by a key that brig trust knows for its name: for a file FILE.asc or --signature, for\n" +
			"a URL URL.asc, else where discovery says. brigd's setting unsigned-acis allows ACIs without one. A bad signature never passes.\n" +
			"Dependencies that aren't here are looked for on the web, for a file only with --discover.\n" +
			"Prints the ACI's ID and the name by which docker knows the image; progress and signers go to standard error.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dial(*host)
			if err != nil {
				return err
			}
			if err := p.run(cmd, c, args[0]); err != nil {
				return fmt.Errorf("import %s: %w", args[0], err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&p.signature, "signature", "", "`FILE` with the detached signature of a file (default: FILE.asc if there is one)")
	cmd.Flags().BoolVar(&p.insecure, "insecure", false, "let servers have bad certificates or speak plain http; signatures are checked all the same")
	cmd.Flags().BoolVar(&p.discover, "discover", false, "look on the web for dependencies of a file that are missing")
	cmd.Flags().BoolVarP(&p.quiet, "quiet", "q", false, "no progress")
	return cmd
}

func (p *importing) run(cmd *cobra.Command, c *client, from string) error {
	q := url.Values{}
	if p.insecure {
		q.Set("insecure", "1")
	}
	if p.discover {
		q.Set("discover", "1")
	}
	var body io.Reader = http.NoBody
	var signature []byte
	if isFile(from) {
		file := cmd.InOrStdin()
		if from != "-" {
			f, err := os.Open(from)
			if err != nil {
				return err
			}
			defer f.Close()
			file = f
		}
		var err error
		if signature, err = p.readSignature(from); err != nil {
			return err
		}
		body = io.NopCloser(file)
	} else if q.Set("from", from); p.signature != "" {
		return errors.New("--signature is for files: what is downloaded has its signature beside it")
	}
	req, err := http.NewRequestWithContext(cmd.Context(), http.MethodPost, "http://brig/brig/v1/images/import?"+q.Encode(), body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	if signature != nil {
		req.Header.Set("X-Brig-Signature", base64.StdEncoding.EncodeToString(signature))
	}
	answer, err := c.do(req)
	if err != nil {
		return err
	}
	defer answer.Close()
	return p.report(cmd, answer)
}

// isFile tells files from URLs and names.
func isFile(s string) bool {
	if s == "-" || strings.HasPrefix(s, "/") || strings.HasPrefix(s, ".") {
		return true
	}
	if strings.Contains(s, "://") {
		return false
	}
	if _, err := os.Lstat(s); err == nil {
		return true
	}
	return strings.HasSuffix(s, ".aci") // nobody's name ends so, and the error shall be about the file
}

// readSignature reads the one that was named, or the one beside the file if there is one.
func (p *importing) readSignature(file string) ([]byte, error) {
	path := p.signature
	if path == "" {
		if path = file + ".asc"; file == "-" {
			return nil, nil
		}
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && p.signature == "" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSignature+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > maxSignature:
		return nil, fmt.Errorf("%s has more than %d bytes: that is no signature", path, maxSignature)
	case len(b) == 0:
		return nil, fmt.Errorf("the signature %s is empty", path)
	}
	return b, nil
}

// importLine is one line of brigd's answer.
type importLine struct {
	ID, Status     string
	Current, Total int64
	Error          string
	Result         *struct {
		ACI, Ref string
		Warnings []string
		Signers  []struct{ Fingerprint, Identity string }
	}
}

// report shows progress, one line for each step, and the result.
func (p *importing) report(cmd *cobra.Command, answer io.Reader) error {
	last := ""
	for d := json.NewDecoder(answer); ; {
		var l importLine
		if err := d.Decode(&l); err != nil {
			return fmt.Errorf("read brigd's answer: %w", err)
		}
		switch {
		case l.Error != "":
			return errors.New(l.Error)
		case l.Result != nil:
			for _, w := range l.Result.Warnings {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
			}
			for _, s := range l.Result.Signers {
				fmt.Fprintf(cmd.ErrOrStderr(), "signed by %s %s\n", s.Fingerprint, s.Identity)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", l.Result.ACI, l.Result.Ref)
			return err
		case p.quiet:
		case l.Total > 0 && l.Current >= l.Total:
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: downloaded %s\n", l.ID, units.HumanSize(float64(l.Total)))
		case l.Total == 0 && l.ID+l.Status != last:
			last = l.ID + l.Status
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", l.ID, l.Status)
		}
	}
}

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// trustedKey is one key as brigd shows it.
type trustedKey struct {
	Prefix, Fingerprint string
	Identities          []string
	Created, Expires    time.Time
	Problem, Armored    string
}

// trusting is one run of brig trust or untrust.
type trusting struct {
	host     *string
	prefix   string
	root     bool
	yes      bool
	insecure bool
}

func (p *trusting) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.prefix, "prefix", "", "`NAME` that ACI names begin with, in whole components")
	cmd.Flags().BoolVar(&p.root, "root", false, "for all ACI names")
	cmd.MarkFlagsMutuallyExclusive("prefix", "root")
	cmd.MarkFlagsOneRequired("prefix", "root")
}

func trustCommand(host *string) *cobra.Command {
	p := trusting{host: host}
	cmd := &cobra.Command{
		Use: "trust --prefix NAME|--root [FILE|URL|-]", Args: cobra.MaximumNArgs(1),
		Short: "Trust an OpenPGP key to sign ACIs",
		Long: "Trust the public keys of a file, of standard input (-), of a URL, or, for a prefix, those that key discovery finds for it, to\n" +
			"sign ACIs whose names begin with the prefix. Shows fingerprints and identities and asks first, unless --yes is given.",
		RunE: func(cmd *cobra.Command, args []string) error {
			from := ""
			if len(args) > 0 {
				from = args[0]
			}
			return p.trust(cmd, from)
		},
	}
	p.flags(cmd)
	cmd.Flags().BoolVarP(&p.yes, "yes", "y", false, "don't ask")
	cmd.Flags().BoolVar(&p.insecure, "insecure", false, "let servers have bad certificates or speak plain http")
	cmd.AddCommand(trustList(host))
	return cmd
}

func (p *trusting) trust(cmd *cobra.Command, from string) error {
	c, err := dial(*p.host)
	if err != nil {
		return err
	}
	ask := map[string]any{"Prefix": p.prefix, "Insecure": p.insecure}
	switch {
	case strings.Contains(from, "://"):
		ask["URL"] = from
	case from == "" && p.root:
		return errors.New("root keys can't be discovered: give a file or a URL")
	case from != "":
		ring, err := readKeys(cmd, from)
		if err != nil {
			return err
		}
		ask["Raw"] = ring
	}
	var keys []trustedKey
	if err := c.send(cmd, "/brig/v1/trust/find", ask, &keys); err != nil {
		return err
	}
	where := "all ACI names"
	if !p.root {
		where = p.prefix
	}
	var ring strings.Builder
	for _, k := range keys {
		fmt.Fprintf(cmd.ErrOrStderr(), "key %s\n", k.Fingerprint)
		for _, id := range k.Identities {
			fmt.Fprintf(cmd.ErrOrStderr(), "    %s\n", id)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "    made %s, %s\n", k.Created.Format(time.DateOnly), expiry(k))
		ring.WriteString(k.Armored)
	}
	if !p.yes {
		if from == "-" {
			return errors.New("the keys came from standard input, so nobody can be asked: check the fingerprints and give --yes")
		}
		if err := confirm(cmd, fmt.Sprintf("Trust for %s? [y/N] ", where)); err != nil {
			return err
		}
	}
	var added []trustedKey
	if err := c.send(cmd, "/brig/v1/trust", map[string]any{"Prefix": p.prefix, "Root": p.root, "Key": ring.String()}, &added); err != nil {
		return err
	}
	for _, k := range added {
		fmt.Fprintln(cmd.OutOrStdout(), k.Fingerprint)
	}
	return nil
}

func expiry(k trustedKey) string {
	switch {
	case k.Problem != "":
		return "UNUSABLE: " + k.Problem
	case k.Expires.IsZero():
		return "never expires"
	}
	return "expires " + k.Expires.Format(time.DateOnly)
}

// maxKeys bounds a keyring, in bytes.
const maxKeys = 1 << 20

func readKeys(cmd *cobra.Command, from string) ([]byte, error) {
	in := cmd.InOrStdin()
	if from != "-" {
		f, err := os.Open(from)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxKeys+1))
	if err == nil && len(b) == 0 {
		err = fmt.Errorf("%s is empty", from)
	}
	if err == nil && len(b) > maxKeys {
		err = fmt.Errorf("%s has more than %d bytes: that is no keyring", from, maxKeys)
	}
	return b, err
}

// confirm wants a yes from standard input.
func confirm(cmd *cobra.Command, question string) error {
	fmt.Fprint(cmd.ErrOrStderr(), question)
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	if a := strings.ToLower(strings.TrimSpace(line)); a != "y" && a != "yes" {
		return errors.New("not trusted")
	}
	return nil
}

func trustList(host *string) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Args: cobra.NoArgs,
		Short: "List the keys that may sign ACIs",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := dial(*host)
			if err != nil {
				return err
			}
			var keys []trustedKey
			if err := c.decode(cmd.Context(), "/brig/v1/trust", &keys); err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "PREFIX\tFINGERPRINT\tIDENTITY\tVALID")
			for _, k := range keys {
				prefix := k.Prefix
				if prefix == "" {
					prefix = "(root)"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", prefix, k.Fingerprint, strings.Join(k.Identities, ", "), expiry(k))
			}
			return w.Flush()
		},
	}
}

func untrustCommand(host *string) *cobra.Command {
	p := trusting{host: host}
	cmd := &cobra.Command{
		Use: "untrust --prefix NAME|--root FINGERPRINT", Args: cobra.ExactArgs(1),
		Short: "Take a key's trust back; images that it signed stay",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dial(*host)
			if err != nil {
				return err
			}
			q := url.Values{"prefix": {p.prefix}}
			if p.root {
				q.Set("root", "1")
			}
			fp := strings.ReplaceAll(args[0], " ", "")
			return c.remove(cmd.Context(), "/brig/v1/trust/"+url.PathEscape(fp)+"?"+q.Encode())
		},
	}
	p.flags(cmd)
	return cmd
}

// send posts JSON and reads JSON.
func (c *client) send(cmd *cobra.Command, path string, v, answer any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	body, err := c.post(cmd.Context(), path, "application/json", bytes.NewReader(b))
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(answer); err != nil {
		return fmt.Errorf("read brigd's answer to %s: %w", path, err)
	}
	return nil
}

// Package gate is what runs on the Proxmox host when the bot's key logs in: one verb, on one VM, then it ends. It is the
// real boundary: it trusts nothing from the other side but the single word, proves what it claims, and finishes a change
// that it began whatever becomes of the connection. It knows no chat, no policy of persons and no network.
package gate

import "io"

// Main runs the gate and returns its exit code. argv is os.Args, the program's name first; environ is os.Environ().
func Main(argv, environ []string, stdout, stderr io.Writer) int { return 7 }

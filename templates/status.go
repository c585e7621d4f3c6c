package templates

import _ "embed"

// Status is the page that shows what an engine does, an html/template; StatusStyle is its style sheet.
var (
	//go:embed status.html.tmpl
	Status string
	//go:embed status.css
	StatusStyle string
)

package query

import (
	"regexp"
	"slices"
	"strings"
)

// maxDepth bounds nesting, maxLength the expression (ECS: 2,000 characters).
const (
	maxDepth  = 50
	maxLength = 2000
)

// operators in their symbols' form, longest first, and the words for them.
var (
	symbols = []string{"==", "!=", ">=", "<=", "=~", "!~", ">", "<"}
	words   = map[string]string{
		"equals": "==", "not_equals": "!=", "greater_than": ">", "greater_than_equal": ">=", "less_than": "<",
		"less_than_equal": "<=", "exists": "exists", "!exists": "!exists", "not_exists": "!exists", "in": "in",
		"!in": "!in", "not_in": "!in", "matches": "=~", "not_matches": "!~",
	}
	subjects = []string{"agentConnected", "agentVersion", "ec2InstanceId", "registeredAt", "runningTasksCount"}
)

// Parse parses an expression. Its error is an *Error.
func Parse(s string) (*Expression, error) {
	if len(s) > maxLength {
		return nil, &Error{maxLength + 1, "an expression has at most 2000 characters"}
	}
	p := &parser{s: s}
	n, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.at < len(p.s) {
		return nil, p.fail("expected and, or, or the end")
	}
	return &Expression{n}, nil
}

type parser struct {
	s  string
	at int
}

func (p *parser) fail(message string) error { return &Error{p.at + 1, message} }

func (p *parser) space() {
	for p.at < len(p.s) && strings.IndexByte(" \t\r\n", p.s[p.at]) >= 0 {
		p.at++
	}
}

// take consumes a symbol.
func (p *parser) take(symbol string) bool {
	p.space()
	if !strings.HasPrefix(p.s[p.at:], symbol) {
		return false
	}
	p.at += len(symbol)
	return true
}

// takeWord consumes a word that stands alone.
func (p *parser) takeWord(word string) bool {
	p.space()
	from := p.at
	if got, _ := p.word(); strings.EqualFold(got, word) {
		return true
	}
	p.at = from
	return false
}

// word reads letters, digits and the punctuation that names and values have.
func (p *parser) word() (string, bool) {
	from := p.at
	for p.at < len(p.s) && strings.IndexByte(" \t\r\n()[],=!<>&|~'\"", p.s[p.at]) < 0 {
		p.at++
	}
	return p.s[from:p.at], p.at > from
}

func (p *parser) or(depth int) (node, error) { return p.chain(depth, "||", "or", p.and) }

func (p *parser) and(depth int) (node, error) { return p.chain(depth, "&&", "and", p.not) }

func (p *parser) chain(depth int, symbol, word string, next func(int) (node, error)) (node, error) {
	if depth > maxDepth {
		return nil, p.fail("nested too deeply")
	}
	var all []node
	for {
		n, err := next(depth)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
		if !p.take(symbol) && !p.takeWord(word) {
			break
		}
	}
	switch {
	case len(all) == 1:
		return all[0], nil
	case word == "or":
		return either(all), nil
	}
	return both(all), nil
}

func (p *parser) not(depth int) (node, error) {
	if depth > maxDepth {
		return nil, p.fail("nested too deeply")
	}
	if p.take("!") || p.takeWord("not") {
		n, err := p.not(depth + 1)
		return negated{n}, err
	}
	if p.take("(") {
		n, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		if !p.take(")") {
			return nil, p.fail("expected )")
		}
		return n, nil
	}
	return p.comparison()
}

func (p *parser) comparison() (node, error) {
	p.space()
	from := p.at
	subject, ok := p.word()
	if !ok {
		return nil, p.fail("expected a subject such as attribute:NAME")
	}
	name, custom := strings.CutPrefix(subject, "attribute:")
	if (!custom || name == "") && subject != "task:group" && !slices.Contains(subjects, subject) {
		p.at = from
		return nil, p.fail("no such subject: use attribute:NAME, task:group, " + strings.Join(subjects, ", "))
	}
	c := comparison{subject: subject}
	if c.op = p.operator(); c.op == "" {
		return nil, p.fail("expected an operator: ==, !=, >, >=, <, <=, =~, !~, in, !in, exists, !exists")
	}
	if c.op == "exists" || c.op == "!exists" {
		return c, nil
	}
	p.space()
	from = p.at
	var err error
	if c.words, err = p.argument(strings.HasSuffix(c.op, "in")); err != nil {
		return nil, err
	}
	if strings.HasSuffix(c.op, "~") {
		pattern, err := regexp.Compile(c.words[0])
		if err != nil {
			p.at = from
			return nil, p.fail("not a regular expression: " + err.Error())
		}
		c.patterns = []*regexp.Regexp{pattern}
	}
	return c, nil
}

func (p *parser) operator() string {
	p.space()
	for _, s := range symbols {
		if p.take(s) {
			return s
		}
	}
	from := p.at
	negative := p.take("!")
	if w, ok := p.word(); ok {
		if negative {
			w = "!" + w
		}
		if op := words[strings.ToLower(w)]; op != "" {
			return op
		}
	}
	p.at = from
	return ""
}

func (p *parser) argument(list bool) ([]string, error) {
	from := p.at
	if !p.take("[") {
		w, err := p.value()
		return []string{w}, err
	}
	if !list {
		p.at = from
		return nil, p.fail("a list goes with in and !in only")
	}
	var all []string
	for {
		w, err := p.value()
		if err != nil {
			return nil, err
		}
		all = append(all, w)
		if p.take("]") {
			return all, nil
		}
		if !p.take(",") {
			return nil, p.fail("expected , or ]")
		}
	}
}

func (p *parser) value() (string, error) {
	p.space()
	if p.at < len(p.s) && (p.s[p.at] == '\'' || p.s[p.at] == '"') {
		quote := p.s[p.at]
		end := strings.IndexByte(p.s[p.at+1:], quote)
		if end < 0 {
			return "", p.fail("the quote is not closed")
		}
		v := p.s[p.at+1 : p.at+1+end]
		p.at += end + 2
		return v, nil
	}
	w, ok := p.word()
	if !ok {
		return "", p.fail("expected a value")
	}
	return w, nil
}

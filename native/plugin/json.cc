// A recursive descent over hostile bytes: every read is bounded, depth is limited, nothing is
// copied but the few members that are asked for.
#include "json.h"

#include <cstdint>

#include "answer.h"

namespace hawser {

namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD
constexpr size_t kShownBytes = 64;

/** Where the text stops being JSON. */
struct Broken {
  const char* cause;
  size_t at;
};

bool isDigit(int c) { return c >= '0' && c <= '9'; }

class Scanner {
 public:
  Scanner(std::string_view text, Config& config) : text_(text), config_(config) {}

  /** The whole text; throws Broken. */
  void document() {
    space();
    if (peek() != '{') fail("not a JSON object");
    value(0);
    space();
    if (at_ != text_.size()) fail("something follows the JSON object");
  }

 private:
  [[noreturn]] void fail(const char* cause) const { throw Broken{cause, at_}; }

  /** The next byte, or -1 at the end. */
  int peek() const { return at_ < text_.size() ? static_cast<unsigned char>(text_[at_]) : -1; }

  bool take(char c) {
    if (peek() != static_cast<unsigned char>(c)) return false;
    ++at_;
    return true;
  }

  void space() {
    while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') ++at_;
  }

  void value(int depth) {
    if (depth > kMaxDepth) fail("nested too deeply");
    switch (peek()) {
      case '{':
        return object(depth);
      case '[':
        return array(depth);
      case '"':
        return string(nullptr);
      case 't':
        return word("true");
      case 'f':
        return word("false");
      case 'n':
        return word("null");
      default:
        return number();
    }
  }

  void object(int depth) {
    ++at_;
    space();
    if (take('}')) return;
    for (std::string key;; key.clear()) {
      space();
      const size_t begin = at_;
      if (peek() != '"') fail("a key is missing");
      string(depth == 0 ? &key : nullptr);
      space();
      if (!take(':')) fail("a colon is missing");
      space();
      Member* member = depth == 0 ? wanted(key) : nullptr;
      if (member == nullptr) {
        value(depth + 1);
      } else {
        keep(*member);
      }
      if (depth == 0) list(key, begin);
      space();
      if (take('}')) return;
      if (!take(',')) fail("a comma or a brace is missing");
    }
  }

  void array(int depth) {
    ++at_;
    space();
    if (take(']')) return;
    for (;;) {
      space();
      value(depth + 1);
      space();
      if (take(']')) return;
      if (!take(',')) fail("a comma or a bracket is missing");
    }
  }

  Member* wanted(std::string_view key) {
    if (key == "cniVersion") return &config_.cniVersion;
    if (key == "name") return &config_.name;
    if (key == "socket") return &config_.socket;
    if (key == "code") return &config_.code;
    if (key == "ready") return &config_.ready;
    if (key == "causes") return &config_.causes;
    return nullptr;
  }

  void list(std::string_view key, size_t begin) {
    if (key == "runtimeConfig") {
      config_.hasRuntimeConfig = true;
    } else {
      config_.members.emplace_back(begin, at_);
    }
  }

  void keep(Member& member) {
    const int first = peek();
    member.text.clear();
    if (first == '"') {
      string(&member.text);
    } else {
      const size_t begin = at_;
      value(1);
      if (first != 'n') member.text = text_.substr(begin, at_ - begin);
    }
    member.kind = first == '"' ? Member::kString : first == 'n' ? Member::kAbsent : Member::kOther;
  }

  void word(std::string_view expected) {
    if (text_.substr(at_, expected.size()) != expected) fail("a value is missing");
    at_ += expected.size();
  }

  void number() {
    take('-');
    if (!isDigit(peek())) fail("a value is missing");
    if (!take('0')) digits();
    if (take('.')) digits();
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      digits();
    }
  }

  void digits() {
    if (!isDigit(peek())) fail("a digit is missing");
    while (isDigit(peek())) ++at_;
  }

  void string(std::string* into) {
    ++at_;
    while (!take('"')) {
      if (take('\\')) {
        escape(into);
        continue;
      }
      if (peek() < 0x20) fail(peek() < 0 ? "a string has no end" : "a control character");
      const size_t length = utf8Length(text_.substr(at_));
      if (length == 0) fail("not UTF-8");
      if (into != nullptr) into->append(text_.substr(at_, length));
      at_ += length;
    }
  }

  void escape(std::string* into) {
    static constexpr std::string_view kNames = "\"\\/bfnrt";
    static constexpr std::string_view kValues = "\"\\/\b\f\n\r\t";
    const int c = peek();
    if (c == 'u') {
      ++at_;
      return unicode(into);
    }
    const size_t index = c < 0 ? std::string_view::npos : kNames.find(static_cast<char>(c));
    if (index == std::string_view::npos) fail("an unknown escape");
    ++at_;
    if (into != nullptr) *into += kValues[index];
  }

  /** After `\u`. A surrogate without its other half becomes U+FFFD. */
  void unicode(std::string* into) {
    uint32_t point = hexadecimal();
    if (point >= 0xd800 && point < 0xdc00 && text_.substr(at_, 2) == "\\u") {
      const size_t second = at_;
      at_ += 2;
      const uint32_t low = hexadecimal();
      if (low >= 0xdc00 && low < 0xe000) {
        point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
      } else {
        at_ = second;  // a character of its own
      }
    }
    if (into != nullptr) append(*into, point);
  }

  uint32_t hexadecimal() {
    uint32_t number = 0;
    for (int k = 0; k < 4; ++k, ++at_) {
      const int c = peek();
      const int lower = c | 0x20;
      if (isDigit(c)) {
        number = number << 4 | static_cast<uint32_t>(c - '0');
      } else if (c > 0 && lower >= 'a' && lower <= 'f') {
        number = number << 4 | static_cast<uint32_t>(lower - 'a' + 10);
      } else {
        fail("an escape without its four digits");
      }
    }
    return number;
  }

  static void append(std::string& to, uint32_t point) {
    const auto tail = [&](int shift) { to += static_cast<char>(0x80 | (point >> shift & 0x3f)); };
    if (point >= 0xd800 && point < 0xe000) {
      to += kReplacement;
    } else if (point < 0x80) {
      to += static_cast<char>(point);
    } else if (point < 0x800) {
      to += static_cast<char>(0xc0 | point >> 6);
      tail(0);
    } else if (point < 0x10000) {
      to += static_cast<char>(0xe0 | point >> 12);
      tail(6);
      tail(0);
    } else {
      to += static_cast<char>(0xf0 | point >> 18);
      tail(12);
      tail(6);
      tail(0);
    }
  }

  std::string_view text_;
  Config& config_;
  size_t at_ = 0;
};

}  // namespace

Config readConfig(std::string_view text) {
  Config config;
  try {
    Scanner(text, config).document();
  } catch (const Broken& broken) {
    throw Failure{kDecodeError, "stdin, byte " + std::to_string(broken.at) + ": " + broken.cause,
                  "the runtime must send the network configuration as one JSON object"};
  }
  return config;
}

std::string withoutRuntimeConfig(const Config& config, std::string_view text) {
  if (!config.hasRuntimeConfig) return std::string(text);
  std::string rest = "{";
  for (const auto& [begin, end] : config.members) {
    if (rest.size() > 1) rest += ',';
    rest += text.substr(begin, end - begin);
  }
  rest += '}';
  return rest;
}

bool isJsonObject(std::string_view text) {
  Config config;
  try {
    Scanner(text, config).document();
    return true;
  } catch (const Broken&) {
    return false;
  }
}

size_t utf8Length(std::string_view text) {
  const auto byte = [&](size_t k) -> unsigned {
    return k < text.size() ? static_cast<unsigned char>(text[k]) : 0;
  };
  const auto within = [&](size_t k, unsigned low, unsigned high) {
    return byte(k) >= low && byte(k) <= high;
  };
  if (text.empty()) return 0;
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return within(1, 0x80, 0xbf) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    const bool second = within(1, first == 0xe0 ? 0xa0 : 0x80, first == 0xed ? 0x9f : 0xbf);
    return second && within(2, 0x80, 0xbf) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const bool second = within(1, first == 0xf0 ? 0x90 : 0x80, first == 0xf4 ? 0x8f : 0xbf);
    return second && within(2, 0x80, 0xbf) && within(3, 0x80, 0xbf) ? 4 : 0;
  }
  return 0;
}

bool isUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = utf8Length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

void appendQuoted(std::string& to, std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  to += '"';
  while (!text.empty()) {
    const auto c = static_cast<unsigned char>(text[0]);
    size_t length = 1;
    if (c == '"' || c == '\\') {
      to += '\\';
      to += static_cast<char>(c);
    } else if (c < 0x20 || c == 0x7f) {
      to.append("\\u00") += kHex[c >> 4];
      to += kHex[c & 15];
    } else if ((length = utf8Length(text)) != 0) {
      to += text.substr(0, length);
    } else {
      to += kReplacement;
      length = 1;
    }
    text.remove_prefix(length);
  }
  to += '"';
}

std::string shown(std::string_view text) {
  size_t length = 0;
  while (length < text.size() && length < kShownBytes) {
    const size_t next = utf8Length(text.substr(length));
    length += next == 0 ? 1 : next;
  }
  std::string quoted;
  appendQuoted(quoted, text.substr(0, length));
  if (length < text.size()) quoted += "...";
  return quoted;
}

}  // namespace hawser

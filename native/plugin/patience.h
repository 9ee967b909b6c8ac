// How long things are waited for. Tests build an executable that is in more of a hurry.
#pragma once

#ifndef HAWSER_HASTE
#define HAWSER_HASTE 1
#endif

namespace hawser {

constexpr int patience(int ms) { return ms / HAWSER_HASTE; }

}  // namespace hawser
